/** How a queue in a spool is called: `spool:FILE#NAME`. */

import { OptionError } from "../base/errors.ts";

export interface SpoolAddress {
  readonly file: string;
  readonly name: string;
}

const PREFIX = "spool:";
/** What a name may be made of: letters of any language, digits, and what hosts and ports need. */
const NAME = /^[\p{L}\p{M}\p{N}._:@[\]-]{1,64}$/u;

/** Whether a queue's name is that of one in a spool, and not a path. */
export function isSpoolAddress(queue: string): boolean {
  return queue.startsWith(PREFIX);
}

/** @throws {OptionError} It is none. */
export function parseSpoolAddress(address: string): SpoolAddress {
  const at = address.lastIndexOf("#");
  if (!isSpoolAddress(address) || at < 0) {
    throw new OptionError("queue", address, "must be like spool:/var/lib/sendq/spool.db#NAME");
  }
  return checkSpoolAddress({ file: address.slice(PREFIX.length, at), name: address.slice(at + 1) });
}

/** @throws {OptionError} These are not the parts of one. */
export function checkSpoolAddress({ file, name: given }: SpoolAddress): SpoolAddress {
  if (typeof file !== "string" || typeof given !== "string") {
    throw new TypeError("A spool needs two texts: its file, and the name of the queue in it");
  }
  // The same letters are the same name, however they were typed.
  const name = given.normalize();
  if (file === "" || file === ":memory:" || file.includes("\0") || isSpoolAddress(file)) {
    throw new OptionError("file", file, "must name a file");
  }
  if (!NAME.test(name)) {
    throw new OptionError(
      "name",
      name,
      "must have 1 to 64 letters and digits, or . _ - : @ [ ] among them",
    );
  }
  return { file, name };
}

/** The same as one text. */
export function formatSpoolAddress({ file, name }: SpoolAddress): string {
  return `${PREFIX}${file}#${name}`;
}

/** Where the senders of a spool say how they stand. */
export function reportsPathOf(file: string): string {
  return `${file}.reports`;
}
