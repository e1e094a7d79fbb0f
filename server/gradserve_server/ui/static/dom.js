// Elements, and what is said to the reader.

export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// element("p", { class: "hint" }, "text", child)
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== ""));
  return made;
}

export function options(select, values, chosen) {
  select.replaceChildren(...values.map((value) => element("option", { value, selected: value === chosen }, value)));
}

export const percent = (probability = 0) =>
  new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: probability < 0.1 ? 1 : 0 }).format(probability);

export const label = (score) => score.class_label || `class ${score.class_index ?? 0}`;

export function say(text) {
  $("#status").textContent = text;
}

export function showError(error) {
  if (error?.name === "AbortError") return;
  const place = $("#error");
  place.replaceChildren();
  if (!error) return;
  for (const field of error.fields ?? []) place.append(element("code", {}, field), ": ");
  place.append(error.message);
}

// Where the results are below the form, as on a phone.
export function toResults() {
  if (matchMedia("(max-width: 52rem)").matches) $("#results").scrollIntoView();
}
