/** Flags: of the library's options, by the names that its messages have for them, and Deno's. */

import {
  ANSWER_OPTIONS,
  CLOSE_OPTIONS,
  DELIVERY_OPTIONS,
  HEARTBEAT_OPTIONS,
  KEEP_ALIVE_OPTIONS,
  PACE_OPTIONS,
  QUEUE_OPTIONS,
  RELAY_OPTIONS,
  SESSION_OPTIONS,
  SOCKET_OPTIONS,
  TLS_OPTIONS,
  VIA_OPTIONS,
} from "../../base/option_table.ts";
import { FORWARDER_OPTIONS, STATUS_OPTIONS } from "../../base/subpath_option_table.ts";
import type { OptionSpec, OptionTable, ResolvedOptions } from "../../base/options.ts";
import { flagsOf, missingPermissions, type Needs } from "../../permissions/permissions.ts";

/** Every option that has a flag, by its name in the library's messages. */
export const OPTIONS: ReadonlyMap<string, OptionSpec> = new Map(
  Object.entries<OptionSpec>({
    // Behind it, those of a queue that have the same names.
    ...FORWARDER_OPTIONS,
    ...QUEUE_OPTIONS,
    ...DELIVERY_OPTIONS,
    ...PACE_OPTIONS,
    ...SOCKET_OPTIONS,
    ...CLOSE_OPTIONS,
    ...RELAY_OPTIONS,
    ...STATUS_OPTIONS,
    ...under("keepAlive", KEEP_ALIVE_OPTIONS),
    ...under("confirm", ANSWER_OPTIONS),
    ...under("session", SESSION_OPTIONS),
    ...under("session.heartbeat", HEARTBEAT_OPTIONS),
    ...under("tls", TLS_OPTIONS),
    ...under("via", VIA_OPTIONS),
  }).filter(([, { flags }]) => flags !== undefined),
);

/** Options of the library that the commands put together out of several flags, by the first. */
export const COMPOSED_OPTIONS: ReadonlyMap<string, string> = new Map([
  ["confirm", "--confirm"],
  ["confirm.accepted", "--accepted"],
  ["confirm.framing", "--answer-framing"],
  ["confirm.keyOf", "--packet-key"],
  ["confirm.refused", "--refused"],
  ["http.address", "--http"],
  ["http.tokenFile", "--http-token-file"],
  ["libssl", "--libssl"],
  ["queueOptions.durability", "--durability"],
  ["session.open.framing", "--session-framing"],
  ["tls", "--tls-…"],
]);

/** `--hold` of `--hold <time>`. */
export function flagOf({ flags = "" }: OptionSpec): string {
  return flags.split(" ", 1)[0] ?? "";
}

/** A message with the flags' names in the place of the library's options. */
export function inFlags(message: string): string {
  // What stands in a path is somebody's directory.
  return message
    .replaceAll(/(?<![\w\-/.])[a-z]\w*(?:\.\w+)*(?![\w/])/g, (word, at: number) => {
      const spec = OPTIONS.get(word);
      // "connect" and "mark" are words of English as well, but not before a value.
      const isName = /[A-Z.]/.test(word) || /^ [="]/.test(message.slice(at + word.length));
      if (!isName) return word;
      return spec === undefined ? COMPOSED_OPTIONS.get(word) ?? word : flagOf(spec);
    })
    // Messages of framings name them as the library does.
    .replaceAll(/(?<![\w\-/.])(input|output) "([\w.,:=/-]+)"/g, "--$1 $2");
}

function under(name: string, table: OptionTable): Record<string, OptionSpec> {
  return Object.fromEntries(
    Object.entries(table).map(([field, spec]) => [`${name}.${field}`, spec]),
  );
}

/**
 * What was given of a table's options.
 *
 * @param options Everything that was given.
 * @param prefix Stands before their names in it.
 */
export function givenOf<T extends OptionTable>(
  table: T,
  options: object,
  prefix?: string,
): Partial<ResolvedOptions<T>>;
export function givenOf(table: OptionTable, options: object, prefix = ""): Record<string, unknown> {
  const values = new Map<string, unknown>(Object.entries(options));
  return Object.fromEntries(
    Object.keys(table)
      .map((name) => [name, values.get(prefix + name)] as const)
      .filter(([, value]) => value !== undefined),
  );
}

/** Deno's flags that are needed and not granted. */
export function missingFlags(needs: Needs): string[] {
  return flagsOf(missingPermissions(needs));
}

/** All flags that are needed, granted or not. */
export function neededFlags(needs: Needs): string[] {
  return flagsOf(missingPermissions(needs, () => false));
}
