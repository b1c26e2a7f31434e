// A part of a page that shows what somebody asks for: whoever asks later wins, and what went wrong is said in its place.

import { byId, setAttribute, setHidden, setText } from "./drawing.js";
import { sentence } from "./words.js";

// `part` is the element's id; PART-problem, PART-problem-text and PART-sign-in say what went wrong. What is returned
// gets an answer and draws it, or has `failed` called, unless something else was asked for meanwhile.
export function asking(part) {
  let asked = 0;
  return async (get, draw, failed = () => {}) => {
    const request = ++asked;
    setAttribute(byId(part), "aria-busy", true);
    try {
      const answer = await get();
      if (request !== asked) return;
      setHidden(byId(`${part}-problem`), true);
      draw(answer);
    } catch (problem) {
      if (request !== asked) return;
      setText(byId(`${part}-problem-text`), problem.status === 401 ? "You are not signed in." : sentence(problem.message));
      setHidden(byId(`${part}-sign-in`), problem.status !== 401);
      setHidden(byId(`${part}-problem`), false);
      failed();
    } finally {
      if (request === asked) setAttribute(byId(part), "aria-busy", false);
    }
  };
}
