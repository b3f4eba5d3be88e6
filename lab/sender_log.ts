/**
 * Reads the lines that `send --log-format json` writes, as any operator's log
 * shipper would: nothing here knows the code that wrote them.
 *
 * @module
 */

import type { Named } from "./scenario.ts";

/** One log line. */
export interface LogEvent {
  /** When the laboratory read it. */
  readonly atMs: number;
  /** The time that the line itself carries; NaN if it is no log line. */
  readonly saysMs: number;
  readonly message: string;
  /** The whole line, parsed. */
  readonly fields: { readonly [name: string]: unknown };
  /** The verdict it names, if it names one that is no good news. */
  readonly named: Named | undefined;
  /** Packets in flight or held when it gave up a connection. */
  readonly toSendAgain: number;
}

const NAMES: readonly (readonly [RegExp, Named])[] = [
  [/^path dead/, "path-dead"],
  [/^local fault/, "local-fault"],
  [/^peer stalled/, "peer-stalled"],
  [/^(the )?peer closed/, "peer-closed"],
  [/^reset by/, "reset"],
  [/^timed out/, "timed-out"],
  [/^no response/, "no-response"],
  [/^the server has closed/, "closes-early"],
  [/^ended by this side/, "ended-here"],
  [/^cannot connect/, "cannot-connect"],
];
/** How a line begins that tells of a connection given up. */
export const GIVEN_UP = "connection given up: ";

/** Reads one line; what is not JSON was written by the runtime and not by the command. */
export function parseLogLine(line: string, atMs: number): LogEvent {
  const fields: { [name: string]: unknown } = line.startsWith("{") ? JSON.parse(line) : {};
  const message = String(fields["message"] ?? line);
  const words = message.startsWith(GIVEN_UP) ? message.slice(GIVEN_UP.length) : message;
  return {
    atMs,
    saysMs: Date.parse(String(fields["time"])),
    message,
    fields,
    named: NAMES.find(([pattern]) => pattern.test(words))?.[1],
    toSendAgain: Number(/; (\d+) packets? will be sent again$/.exec(message)?.[1] ?? 0),
  };
}
