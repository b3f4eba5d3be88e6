/**
 * What all servers of a status have in common: their options, and what is known of one that runs.
 */

import type { Clock, Logger } from "../base/ports.ts";
import type { Condition } from "../sender/condition.ts";
import type { Sender } from "../sender/sender.ts";

/** How to serve a sender's status. */
export interface StatusServerOptions {
  /**
   * Where to listen. Anything but a loopback address needs a
   * {@linkcode StatusServerOptions.token}.
   *
   * @default {"127.0.0.1"}
   */
  readonly hostname?: string;
  /**
   * The port; 0 picks a free one.
   *
   * @default {9465}
   */
  readonly port?: number;
  /**
   * What requests have to bring, as `Authorization: Bearer TOKEN` or through
   * the page's form; at least 16 characters. It travels in clear text: beyond
   * a trusted network put a proxy with TLS before it.
   */
  readonly token?: string | undefined;
  /**
   * `/healthz` says 503 while packets have waited longer than this without a
   * byte being acknowledged.
   *
   * @default {60000}
   */
  readonly undeliverableLimitMs?: number;
  /**
   * Whether the first bytes of the oldest packet are shown.
   *
   * @default {false}
   */
  readonly showPayloads?: boolean;
  /** Told when readers cannot be accepted. Silent by default. */
  readonly logger?: Logger;
  /** Time, for tests. */
  readonly clock?: Clock;
}

/** Serves until it is disposed of. */
export interface StatusServer extends AsyncDisposable {
  /** Where the page is, for example `"http://127.0.0.1:9465/"`. */
  readonly url: string;
  /** Where it listens. */
  readonly addr: Deno.NetAddr;
  /** Ends open streams, answers what is under way, and stops listening. Idempotent. */
  close(): Promise<void>;
}

/**
 * What is shown of one of several senders: the sender; an error for one that could not be
 * opened; a condition while there is none, for example because it waits for its turn. One whose
 * tone is `"bad"` counts as unhealthy.
 */
export type ShownSender = Sender | Error | Condition;

/** Serves the status of several senders until it is disposed of. */
export interface RoutesStatusServer extends StatusServer {
  /**
   * Shows something else under a name from now on, or a further one: a sender that was opened
   * meanwhile, or why there is none any more.
   *
   * @param name Which of them.
   * @param sender What is shown.
   */
  show(name: string, sender: ShownSender): void;
}
