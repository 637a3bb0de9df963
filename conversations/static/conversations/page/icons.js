/** Drawings of 24 by 24, lines of one width. */

/** @type {Record<string, string>} */
const PATHS = {
  archive: "M4 8v11h16V8M3 4h18v4H3zM10 12h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  dots: "M5 12h.01M12 12h.01M19 12h.01",
  down: "M12 5v14M6 13l6 6 6-6",
  gear: "M4 7h9M17 7h3M4 12h3M11 12h9M4 17h11M19 17h1M15 5v4M9 10v4M17 15v4",
  image: "M4 5h16v14H4zM4 16l4.5-4.500 3.500 3.500 3-3 5 5M15.500 9h.01",
  left: "M15 6l-6 6 6 6",
  pencil: "M4 20l1-4.5L16.5 4l3.5 3.5L8.5 19zM14 6.5l3.5 3.5",
  pin: "M9 4h6l-1 7 3 3H7l3-3zM12 14v6",
  refresh: "M20 11a8 8 0 0 0-14.5-3.5L4 9M4 4v5h5M4 13a8 8 0 0 0 14.5 3.5L20 15M20 20v-5h-5",
  right: "M9 6l6 6-6 6",
  send: "M12 19V5M6 11l6-6 6 6",
  sidebar: "M4 5h16v14H4zM9.5 5v14",
  sliders: "M4 8h8M18 8h2M4 16h2M12 16h8M15 5.5v5M9 13.5v5",
  stop: "M8 8h8v8H8z",
  temporary: "M12 3a9 9 0 0 1 4.5 1.2M19.8 7.500a9 9 0 0 1 1.2 4.5M19.8 16.500a9 9 0 0 1-3.3 3.300M12 21H4l1.5-3.500M3 12a9 9 0 0 1 1.2-4.500M7.5 4.200A9 9 0 0 1 9 3.5",
  thumbDown: "M17 4v10M17 14l-4 7c-1.7 0-2.5-1-2.5-2.500L11 14.500H5.500c-1.3 0-2.2-1-2-2.300l1-6.400C4.7 4.7 5.5 4 6.6 4H20v10h-3",
  thumbUp: "M7 20V10M7 10l4-7c1.7 0 2.5 1 2.5 2.500L13 9.500h5.500c1.3 0 2.2 1 2 2.300l-1 6.400c-.2 1.1-1 1.8-2.1 1.800H4V10h3",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
};
const SVG = "http://www.w3.org/2000/svg";

/**
 * Return a drawing that says nothing to those who do not see it.
 * @param {string} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name] ?? "");
  svg.append(path);
  return svg;
}
