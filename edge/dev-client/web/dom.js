/** Make elements. Whatever is shown is text, never markup: it comes from strangers' devices. */

/**
 * Make an element: `make("button.main", {type: "button", onclick: …}, "Send")`. Names with a dash, `role`, `for`
 * and `list` are attributes, all others properties; children are nodes or texts; null and false are skipped.
 *
 * @param {string} what
 * @param {object} properties
 * @param {any[]} children
 * @returns {any}
 */
export function make(what, properties = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  node.classList.add(...classes);
  for (const [name, value] of Object.entries(properties)) {
    if (/-|^(role|for|list)$/.test(name)) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== false && child !== undefined));
  return node;
}

/** @returns {any} The element with this id. */
export const at = (id) => document.getElementById(id);

/** Set a text only when it is another: nothing is read out again, and no selection is lost. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Call `draw` once before the next frame, however often the result is called. */
export function coalesced(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    // a hidden page has no frames, but is read all the same when it is shown again
    (document.hidden ? (later) => setTimeout(later, 250) : requestAnimationFrame)(() => {
      due = false;
      draw();
    });
  };
}

/** Copy a text, and say so on the button for a moment. */
export async function copy(text, button) {
  const before = button.dataset.text ??= button.textContent;
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not a secure context: the older way
    const area = make("textarea", { value: text, readOnly: true });
    area.classList.add("visually-hidden");
    document.body.append(area);
    area.select();
    if (!document.execCommand("copy")) done = "Not allowed";
    area.remove();
    button.focus();
  }
  button.textContent = done;
  announce(done);
  clearTimeout(button.back);
  button.back = setTimeout(() => {
    button.textContent = before;
  }, 1500);
}

/** Say something to those who hear the page. Sparingly. What is said is not cut short by what follows. */
export function announce(text) {
  const said = make("p", {}, text);
  at("announcer").append(said);
  setTimeout(() => said.remove(), SAID);
}

const SAID = 5000; // ms
