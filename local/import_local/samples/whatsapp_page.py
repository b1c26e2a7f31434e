"""The HTML of sample WhatsApp catalogues: a page that fills itself by script while it is scrolled, and its variations.

No public page shape is documented: classes and layout are this sample's own, and a scraper gets them as selectors.
"""

from __future__ import annotations

import html
import json
from string import Template
from typing import Any

from import_local.samples.catalogue.model import Product

ITEM_CLASS = "catalogue-item"
CHANGED_CLASS = "shelf-tile"

_FRAME = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title></head>
<body>$body</body></html>
"""
)

_SCRIPT = """
const settings = JSON.parse(document.getElementById("settings").textContent);
const list = document.getElementById("items");
let next = 0, loading = false, ended = false;
function element(kind, name, text) {
  const made = document.createElement(kind);
  made.className = name;
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}
function show(item) {
  const one = element("article", settings.itemClass);
  one.setAttribute("data-product-id", item.id);
  const link = element("a", "item-link");
  link.href = item.link;
  link.append(element("h3", "item-title", item.title));
  one.append(link, element("p", "item-price", item.price), element("p", "item-text", item.description));
  for (const address of item.images) {
    const image = element("img", "item-image");
    image.setAttribute("src", address);
    one.append(image);
  }
  one.style.minHeight = "220px";
  list.append(one);
}
async function more() {
  if (loading || ended) return;
  loading = true;
  try {
    const answer = await fetch(settings.data + "?offset=" + next);
    if (!answer.ok) return;
    const page = await answer.json();
    page.items.forEach(show);
    next += page.items.length;
    ended = !page.more;
    if (next === 0) list.append(element("p", "empty-catalogue", "This catalogue has no items yet."));
  } finally {
    loading = false;
  }
}
addEventListener("scroll", () => {
  if (scrollY + innerHeight > document.documentElement.scrollHeight - 400) more();
});
more();
"""

_ENDLESS = """
let count = 0;
setInterval(() => {
  for (let i = 0; i < 4; i++) {
    const one = document.createElement("article");
    one.className = "catalogue-item";
    one.setAttribute("data-product-id", "endless-" + count++);
    one.innerHTML = "<h3 class=item-title>Item " + count + "</h3>";
    document.getElementById("items").append(one);
  }
}, 50);
"""

# What a page must not get away with: reading private addresses in every way that a browser has, redirects,
# downloads, windows, dialogs, endless requests, prototypes and texts of any size.
_HOSTILE = Template(
    """
const target = $target;
const away = $away;
const note = (what) => () => { document.body.dataset[what] = "blocked"; };
for (const address of [target + "fetch", away]) {
  fetch(address, {mode: "no-cors"}).then((answer) => answer.text())
    .then((text) => { document.title = "leaked " + text; }).catch(note("fetch"));
  navigator.sendBeacon && navigator.sendBeacon(address, "x");
  for (const kind of ["img", "script", "iframe", "link", "video", "object"]) {
    const one = document.createElement(kind);
    one.src = one.href = one.data = address + kind;
    if (kind === "link") one.rel = "stylesheet";
    document.head.append(one);
  }
  try { new WebSocket(address.replace("http", "ws")); } catch {}
  try { new EventSource(address); } catch {}
}
try {
  const peer = new RTCPeerConnection({iceServers: [{urls: "stun:" + new URL(target).host}]});
  peer.createDataChannel("x");
  peer.createOffer().then((offer) => peer.setLocalDescription(offer));
} catch {}
navigator.serviceWorker && navigator.serviceWorker.register($worker).catch(() => {});
open(target + "window");
alert("stop here");
const file = document.createElement("a");
file.href = "data:application/octet-stream,x"; file.download = "x"; document.body.append(file); file.click();
document.querySelectorAll = () => { throw new Error("the page's own"); };
String.prototype.slice = () => "y".repeat(1e8);
Array.from = () => [];
setTimeout(() => { location = target + "location"; }, 50);
"""
)


def frame(title: str, body: str) -> str:
    """Return a whole page; `body` is markup, `title` is text."""
    return _FRAME.substitute(title=html.escape(title), body=body)


def catalogue_page(title: str, data: str, *, item_class: str = ITEM_CLASS) -> str:
    """Return the page that loads its items from `data` while it is scrolled."""
    settings = json.dumps({"data": data, "itemClass": item_class}).replace("<", "\\u003c")
    return frame(
        title,
        f"<h1>{html.escape(title)}</h1><main id=items></main>"
        f'<script id=settings type="application/json">{settings}</script><script>{_SCRIPT}</script>',
    )


def endless_page() -> str:
    """Return a page whose list never ends."""
    return frame("Endless", f"<main id=items></main><script>{_ENDLESS}</script>")


def hostile_page(item: dict[str, Any], *, target: str, away: str, worker: str) -> str:
    """Return a page with one item whose script tries to reach `target`, directly and by way of `away`."""
    script = _HOSTILE.substitute(target=json.dumps(target), away=json.dumps(away), worker=json.dumps(worker))
    shown = (
        f'<article class="{ITEM_CLASS}" data-product-id="{html.escape(item["id"])}">'
        f'<a class=item-link href="javascript:alert(1)"><h3 class=item-title>{html.escape(item["title"])}'
        "<script>document.title='run'</script>&lt;script&gt;alert(1)&lt;/script&gt;</h3></a>"
        '<p class=item-price>€9.90</p><img class=item-image src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'
        f'<img class=item-image src="{html.escape(item["images"][0])}"></article>'
    )
    return frame("Hostile", f"<main id=items>{shown}</main><script>{script}</script>")


def item_page(item: dict[str, Any], product: Product) -> str:
    """Return a product's own page: all images and the whole description."""
    images = "".join(f'<img class=photo src="{html.escape(address)}">' for address in item["images"])
    return frame(
        product.title,
        f"<h1 class=name>{html.escape(item['title'])}</h1><p class=amount>{html.escape(item['price'])}</p>"
        f"<p class=blank></p><p class=about>{html.escape(item['description'])}</p>{images}",
    )


def wall_page(kind: str) -> str:
    """Return what stands before the catalogue."""
    title, text = {
        "consent": ("Before you continue", "We use cookies. <button>Accept all cookies</button>"),
        "login": ("WhatsApp", "<h1>Log in</h1><p>Scan the QR code with your phone.</p>"),
        "robot-check": ("One more step", "<h1>Please verify you are human</h1><div id=captcha></div>"),
    }[kind]
    return frame(title, text)
