/** As much of a page as React and Vue need to be mounted on: import it before them. */

import { Window } from "happy-dom";

const window = new Window({ url: "https://app.test/" });
const names = ["document", "Element", "HTMLElement", "HTMLIFrameElement", "MathMLElement", "Node", "SVGElement"];
for (const name of names) globalThis[name] = window[name];
globalThis.window = window;
globalThis.navigator ??= window.navigator; // from Node 21 on it has one

export const { document } = window;

/** Let everything happen that needs no time to pass. */
export async function settle() {
  for (let round = 0; round < 20; round++) await new Promise(setImmediate);
}
