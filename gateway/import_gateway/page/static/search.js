// The page that searches a company's catalogue, as a storefront would: by `GET /v1/search`.

import { api } from "./api.js";
import { asking } from "./asking.js";
import { FOUND_AT_MOST, FOUND_ON_A_PAGE, toFound } from "./contract.js";
import { byId, fromTemplate, setHidden, setText } from "./drawing.js";
import { plural } from "./words.js";

const PARTS = { text: "words", vectors: "meaning", cache: "the cache" };

const ask = asking("search");
let wanted = null;
let shown = 0;

function row(product) {
  const made = fromTemplate("product-template");
  setText(made.querySelector(".found-title bdi"), product.title || product.item);
  setText(made.querySelector(".found-item"), product.item);
  setText(made.querySelector(".found-source"), product.source);
  setText(made.querySelector(".found-price"), product.price ? `${product.price} ${product.currency}`.trim() : "");
  return made;
}

function draw(page, more) {
  const rows = page.items.map(row);
  if (more) byId("search-list").append(...rows);
  else byId("search-list").replaceChildren(...rows);
  shown = byId("search-list").children.length;
  const further = page.items.length === FOUND_ON_A_PAGE && shown < FOUND_AT_MOST;
  setHidden(byId("search-more"), !further);
  const away = page.degraded.map((part) => PARTS[part] ?? part).join(", ");
  const words = shown ? `${plural(shown, "product")}${further ? " so far" : ""}` : "No product matches";
  setText(byId("search-found"), away ? `${words}. Did not answer in time: ${away}.` : words);
}

// What is of another question must not stand below this one.
function clear() {
  draw({ items: [], degraded: [] }, false);
  setText(byId("search-found"), "");
}

function search(more) {
  if (!wanted) return;
  const get = async () => toFound(await api.search(wanted.company, wanted.words, more ? shown : 0));
  ask(get, (page) => draw(page, more), () => more || clear());
}

byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  wanted = { company: byId("search-company").value.trim(), words: byId("search-words").value.trim() };
  search(false);
});
byId("search-more").addEventListener("click", () => search(true));
