/** Helpers to make elements. All content is text, never markup: it comes from other people's devices. */

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

/** Set a text only if it differs, so that nothing is read out again and no selection is lost. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Return a function that calls `draw` once before the next frame, however often it is called. */
export function coalesced(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    // a hidden page has no frames, but must be up to date when it is shown again
    (document.hidden ? (later) => setTimeout(later, 250) : requestAnimationFrame)(() => {
      due = false;
      draw();
    });
  };
}

/** Copy a text, and confirm it on the button for a moment. */
export async function copy(text, button) {
  const before = button.dataset.text ??= button.textContent;
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not a secure context: use the legacy API
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

/** Announce something to screen readers, sparingly. Later announcements do not interrupt it. */
export function announce(text) {
  const node = make("p", {}, text);
  at("announcer").append(node);
  setTimeout(() => node.remove(), ANNOUNCED);
}

const ANNOUNCED = 5000; // ms
