// Signing in: the token goes to the gateway once, which keeps it in a cookie that no script can read.

import { api } from "./api.js";
import { byId, setHidden, setText } from "./drawing.js";

export function showSignIn(message) {
  for (const id of ["dashboard", "account", "skip", "lost", "pages"]) setHidden(byId(id), true);
  setHidden(byId("sign-in"), false);
  setText(byId("sign-in-error"), message);
  byId("token").focus();
}

export function wireSignIn(enter) {
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter ?? byId("sign-in-form").querySelector("button");
    setText(byId("sign-in-error"), "");
    button.disabled = true;
    try {
      await api.signIn(byId("token").value.trim());
      byId("token").value = "";
      await enter();
    } catch (problem) {
      setText(byId("sign-in-error"), problem.message);
      byId("token").focus();
    } finally {
      button.disabled = false;
    }
  });
  wireCopy();
}

// Browsers give the clipboard to pages over HTTPS and on localhost only.
function wireCopy() {
  const button = byId("copy-command");
  setHidden(button, !navigator.clipboard);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("token-command").textContent);
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), 2000);
  });
}
