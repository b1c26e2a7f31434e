// What tests measure in the page; put into it before its own scripts run.
(() => {
  const violations = [];
  document.addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));

  const canvas = () => document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  let pixel;
  const parse = (color) => {
    pixel ??= canvas();
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = color;
    pixel.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const backgroundOf = (element) => {
    const layers = [];
    for (let it = element; it; it = it.parentElement) {
      layers.push(parse(getComputedStyle(it).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const ratioOf = (element) => {
    const background = backgroundOf(element);
    const [one, other] = [luminance(over(parse(getComputedStyle(element).color), background)), luminance(background)];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  };

  window.probes = {
    violations,

    // Texts whose contrast is below what WCAG 2 asks for: 4.5, or 3 for large text.
    contrast() {
      const problems = [];
      let measured = 0;
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const text = walker.currentNode.data.trim();
        const element = walker.currentNode.parentElement;
        if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
        if (element.closest("option, button:disabled, .hidden-visually, .skip, template")) continue;
        const { fontSize, fontWeight } = getComputedStyle(element);
        const large = parseFloat(fontSize) >= 24 || (parseFloat(fontSize) >= 18.66 && Number(fontWeight) >= 700);
        const ratio = ratioOf(element);
        measured += 1;
        if (ratio < (large ? 3 : 4.5)) problems.push(`${ratio.toFixed(2)} ${element.className} “${text.slice(0, 40)}”`);
      }
      return measured < 8 ? [...problems, `only ${measured} texts measured`] : problems;
    },

    // What sticks out of the window by more than a rounding error.
    overflow() {
      const wide = document.documentElement.scrollWidth > innerWidth + 1 ? ["the document"] : [];
      const cut = ".hidden-visually, .skip, .job-name, .job-from, .brand, .account-name";
      for (const element of document.querySelectorAll("main:not([hidden]) *, dialog[open] *, header *"))
        if (element.checkVisibility() && !element.closest(cut) && element.getBoundingClientRect().right > innerWidth + 1)
          wide.push(element.outerHTML.slice(0, 120));
      return wide;
    },

    // What has the focus, and whether a ring shows it.
    focused() {
      const element = document.activeElement;
      const radio = element.matches("input[type=radio]");
      const { outlineStyle, outlineWidth } = getComputedStyle(radio ? element.nextElementSibling : element);
      const label = element.labels?.[0]?.querySelector("span")?.textContent;
      const name = radio ? "Phase" : (element.getAttribute("aria-label") ?? label ?? element.textContent.trim());
      return [name, outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
    },

    // Buttons and fields that a finger would miss: under 24 pixels, as WCAG 2.2 has it.
    smallTargets() {
      return [...document.querySelectorAll("button, input, a")]
        .filter((element) => element.checkVisibility() && !element.closest(".skip"))
        .filter((element) => Math.min(element.getBoundingClientRect().width, element.getBoundingClientRect().height) < 24)
        .map((element) => element.outerHTML.slice(0, 120));
    },

    // Counts how often the text of an element is written from now on.
    countWrites(selector) {
      window.probes.writes = 0;
      new MutationObserver((changes) => (window.probes.writes += changes.length)).observe(document.querySelector(selector), {
        childList: true,
        characterData: true,
        subtree: true,
      });
    },
  };
})();
