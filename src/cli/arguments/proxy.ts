/** The options of a proxy that connections go through. */

import { DELIVERY_OPTIONS, VIA_OPTIONS } from "../../base/option_table.ts";
import type { ViaOptions } from "../../base/via.ts";
import { UsageError } from "../terminal/exit_code.ts";
import { flagOf, givenOf, OPTIONS } from "../terminal/flags.ts";
import { readFor } from "../terminal/stdio.ts";
import type { OptionAdder } from "./option_adder.ts";

/** Stands before the names of a proxy's options. */
export const VIA = "via.";

export function addViaOptions(options: OptionAdder): void {
  options.group("Proxy").table(VIA_OPTIONS, {}, VIA);
}

/** What was given of a proxy and of a source, without secrets. */
export function wayOf(options: object): { readonly via?: string; readonly source?: string } {
  const { url } = givenOf(VIA_OPTIONS, options, VIA);
  const { source } = givenOf(DELIVERY_OPTIONS, options);
  return {
    ...(url === undefined ? {} : { via: url }),
    ...(source === undefined ? {} : { source }),
  };
}

/**
 * The proxy that connections go through, where one was given.
 *
 * @throws {UsageError} The file with its credentials cannot be read.
 */
export function viaOptionsOf(options: object): { readonly via?: ViaOptions } {
  const { url, credentials: path, ...others } = givenOf(VIA_OPTIONS, options, VIA);
  if (url === undefined) {
    const [first] = path === undefined ? Object.keys(others) : ["credentials"];
    if (first === undefined) return {};
    const spec = OPTIONS.get(VIA + first);
    throw new UsageError(`${spec && flagOf(spec)} needs ${flagOf(VIA_OPTIONS.url)}`);
  }
  if (path === undefined) return { via: { url, ...others } };
  const flag = flagOf(VIA_OPTIONS.credentials);
  const text = new TextDecoder().decode(readFor(path, `${flag}: ${path}`));
  // An editor ends a file with a line break, which no credentials have.
  return { via: { url, ...others, credentials: text.replace(/\r?\n$/, "") } };
}
