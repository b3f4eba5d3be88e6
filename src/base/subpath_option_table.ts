/** The options of subpaths, as those of `option_table.ts`, which nobody else has to load. */

import { DELIVERY_OPTIONS, QUEUE_OPTIONS } from "./option_table.ts";
import { count, duration, NO_TIMER, type OptionTable, size } from "./options.ts";

/** `ForwarderOptions` of `@sendq/sendq/postgres` */
export const FORWARDER_OPTIONS = {
  edge: {
    type: "text",
    flags: "--edge <name>",
    help: "what people call this edge; each edge of a queue has its own",
    otherwise: "the file's path",
  },
  asNew: {
    type: "switch",
    flags: "--as-new",
    help: "forward all that is in a file that would be refused, as from a new edge",
    default: false,
  },
  maxPackets: count("--to-max-packets <count>", "most packets in the cluster's queue", {
    default: QUEUE_OPTIONS.maxPackets.default,
  }),
  maxBytes: size("--to-max-bytes <size>", "most bytes in the cluster's queue", {
    default: QUEUE_OPTIONS.maxBytes.default,
  }),
} as const satisfies OptionTable;

/** `StatusServerOptions` */
export const STATUS_OPTIONS = {
  undeliverableLimitMs: duration(
    "--unhealthy-after <time>",
    "/healthz says 503 when nothing was acknowledged for so long",
    { max: NO_TIMER, endless: true, default: 60_000 },
  ),
} as const satisfies OptionTable;

/** `WatchOptions` of `@sendq/sendq/tcp`; the command has none of them. */
export const WATCH_OPTIONS = {
  stallTimeoutMs: duration(
    undefined,
    "this long without a sign of the peer while bytes are under way: path dead",
    { min: 100, default: DELIVERY_OPTIONS.stallTimeoutMs.default },
  ),
  peerStallTimeoutMs: duration(
    undefined,
    "patience with a peer that lives and does not read",
    { min: 100, endless: true, default: DELIVERY_OPTIONS.peerStallTimeoutMs.default },
  ),
  reset: {
    type: "switch",
    help: "reset the connection once its path is dead, so that what waits for it fails",
    default: true,
  },
} as const satisfies OptionTable;

/** A token shorter than this can be guessed. */
const MIN_TOKEN_CHARACTERS = 16;

/** What the token of a status page must have, in words that follow its name. */
export const TOKEN_RULE =
  `must have ${MIN_TOKEN_CHARACTERS} or more printable ASCII characters and no space; ` +
  `"openssl rand -hex 32" makes a good one`;

/** Whether a text has what a token must have. */
export function isToken(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text) && text.length >= MIN_TOKEN_CHARACTERS;
}
