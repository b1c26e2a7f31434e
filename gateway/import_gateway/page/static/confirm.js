// Asks before what can't be taken back. The dialog is modal: the browser keeps the focus in it and gives it back.

import { byId, setHidden, setText } from "./drawing.js";

// Resolves with {yes, reason}; Escape means no.
export function confirm({ title, text, yes, no, danger = true, askReason = false }) {
  const dialog = byId("confirm");
  const before = document.activeElement;
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), yes);
  setText(byId("confirm-no"), no);
  byId("confirm-yes").className = danger ? "danger" : "primary";
  setHidden(byId("confirm-reason-field"), !askReason);
  byId("confirm-reason").value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        // The row may have been drawn anew meanwhile; then the browser has nothing to give the focus back to.
        if (before?.isConnected) before.focus({ preventScroll: true });
        resolve({ yes: dialog.returnValue === "yes", reason: byId("confirm-reason").value.trim() });
      },
      { once: true },
    );
  });
}
