"""What is run beside a page, in a JavaScript world of its own: the page can change its DOM, but not these.

All that they return is cut here, before it leaves the browser.
"""

from __future__ import annotations

CHECK_SELECTORS = """
(selectors) => Object.keys(selectors).filter((name) => {
  try { document.createDocumentFragment().querySelector(selectors[name]); return false; } catch { return true; }
})
"""
"""Names of the selectors that are not valid CSS."""

_COMMON = """
  const text = (root, selector, most) => {
    const found = selector ? root.querySelector(selector) : null;
    return found ? (found.innerText ?? found.textContent ?? "").slice(0, most) : null;
  };
  const images = (root, selector) => selector
    ? Array.from(root.querySelectorAll(selector)).slice(0, a.mostImages)
        .map((one) => (one.getAttribute(a.imageAttribute) || "").slice(0, a.mostAddress))
        .filter((address) => address)
    : [];
"""

READ_ITEMS = (
    """
(a) => {
"""
    + _COMMON
    + """
  const key = (one) => one
    ? (a.idAttribute && one.getAttribute(a.idAttribute))
      || (a.link && one.querySelector(a.link)?.getAttribute("href")) || ""
    : "";
  const all = document.querySelectorAll(a.item);
  const isSame = all.length >= a.start && String(key(all[0])).slice(0, a.mostAddress) === a.first;
  const from = isSame ? a.start : 0;
  const read = Array.from(all).slice(from, from + a.most).map((one) => ({
    identifier: a.idAttribute ? (one.getAttribute(a.idAttribute) || "").slice(0, a.mostIdentifier) || null : null,
    link: a.link ? (one.querySelector(a.link)?.getAttribute("href") || "").slice(0, a.mostAddress) || null : null,
    title: text(one, a.title, a.mostTitle),
    price: text(one, a.price, a.mostPrice),
    description: text(one, a.description, a.mostDescription),
    images: images(one, a.image),
  }));
  return {
    items: read, from, count: all.length,
    first: String(key(all[0])).slice(0, a.mostAddress),
    last: String(key(all[all.length - 1])).slice(0, a.mostAddress),
    elements: document.getElementsByTagName("*").length,
  };
}
"""
)
"""The items of a list from number `start` on, or from the first where the list is another one by now."""

READ_ITEM_PAGE = (
    """
(a) => {
"""
    + _COMMON
    + """
  return {
    title: text(document, a.title, a.mostTitle),
    price: text(document, a.price, a.mostPrice),
    description: text(document, a.description, a.mostDescription),
    images: images(document, a.image),
    count: document.querySelectorAll(a.item).length,
    elements: document.getElementsByTagName("*").length,
  };
}
"""
)

WAIT_FOR_MORE = """
(a) => new Promise((resolve) => {
  const key = (one) => one
    ? (a.idAttribute && one.getAttribute(a.idAttribute))
      || (a.link && one.querySelector(a.link)?.getAttribute("href")) || ""
    : "";
  const found = () => document.querySelectorAll(a.item);
  const finish = (grown) => { clearTimeout(timer); observer.disconnect(); resolve(grown); };
  const look = () => {
    const all = found();
    const last = String(key(all[all.length - 1])).slice(0, a.mostAddress);
    if (all.length !== a.count || last !== a.last) finish(true);
  };
  const observer = new MutationObserver(look);
  const rest = (milliseconds) => setTimeout(() => finish(false), milliseconds);
  // A page hears that it was scrolled when it is drawn next, which on a busy machine can be long after the scroll: it
  // rests from then on. One that is never drawn is not waited for.
  let timer = rest(a.quiet + 5000);
  requestAnimationFrame(() => requestAnimationFrame(() => {
    clearTimeout(timer);
    timer = rest(a.quiet);
  }));
  observer.observe(document, { subtree: true, childList: true, attributes: true });
  if (a.scrolls) {
    const all = found();
    all[all.length - 1]?.scrollIntoView({ block: "end" });
    window.scrollTo(0, document.documentElement.scrollHeight);
  }
  look();
})
"""
"""Scrolls to the end, and waits until the list is another one (true) or some time has passed (false)."""

LOOK = """
(a) => ({
  title: (document.title || "").slice(0, 300),
  text: (document.body?.innerText || "").slice(0, 2000),
  elements: document.getElementsByTagName("*").length,
  counts: Object.fromEntries(
    Object.keys(a.selectors).map((name) => [name, document.querySelectorAll(a.selectors[name]).length])),
})
"""
"""What a page is like, for a message."""
