/**
 * One attempt to get a connection that packets may go out on: the name is looked up,
 * the connection is made, the session is opened, each within a limit of its own; but where the
 * other side connects to us, that takes as long as it takes. A connection that nobody waits for
 * any more is reset.
 */

import { seconds, SessionRefusedError, WireError } from "../base/errors.ts";
import { abortQuietly } from "../base/own_end.ts";
import type { Clock, Dialer } from "../base/ports.ts";
import { type Opened, openSession } from "../session/open.ts";
import type { SessionPlan } from "../session/session.ts";
import { WireReader } from "../session/wire_reader.ts";
import type { Verdict } from "./liveness.ts";

export interface AttemptOptions {
  readonly dialer: Dialer;
  readonly clock: Clock;
  /**
   * Asked once there is a connection, which may be hours later; undefined: packets may go out
   * at once.
   */
  readonly session: () => SessionPlan | undefined;
  readonly lookUpTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** Called when there is something to look at. */
  readonly onNews: () => void;
}

/** What became of an attempt. */
export type AttemptResult =
  /** It goes on for so long at most. */
  | { readonly kind: "waiting"; readonly waitMs: number }
  | { readonly kind: "opened"; readonly opened: Opened }
  | {
    readonly kind: "failed";
    readonly error: unknown;
    /** Where the failure has a name. */
    readonly verdict: Verdict | undefined;
    /** When the part of it began that failed: what it took has been waited already. */
    readonly startedAtMs: number;
  };

type Phase = "look-up" | "connect" | "handshake" | "session";

/** The dialer has better words for a handshake that takes too long: ours is the last resort. */
const HANDSHAKE_MARGIN_MS = 1000;

export class Attempt {
  readonly #options: AttemptOptions;
  readonly #controller = new AbortController();
  #phase: Phase = "look-up";
  #phaseSinceMs: number;
  /** How long the present phase may take, unless the other side connects to us. */
  #phaseLimitMs: number;
  #outcome: { readonly opened: Opened } | { readonly error: unknown } | undefined;

  constructor(options: AttemptOptions) {
    this.#options = options;
    this.#phaseSinceMs = options.clock.nowMs();
    this.#phaseLimitMs = options.lookUpTimeoutMs;
    this.#dial().then((opened) => {
      // An answer that came too late belongs to nobody.
      if (this.#controller.signal.aborted) abortQuietly(opened.wire);
      else this.#outcome = { opened };
    }).catch((error) => {
      this.#outcome = { error };
    }).finally(options.onNews);
  }

  /**
   * Says how it stands; gives it up if its time is over.
   *
   * @param mustEnd Nobody waits any longer.
   */
  look(nowMs: number, mustEnd: boolean): AttemptResult {
    const outcome = this.#outcome;
    if (outcome === undefined) {
      const waits = this.#options.dialer.waits === true;
      const waitMs = waits ? Infinity : this.#phaseSinceMs + this.#phaseLimitMs - nowMs;
      if (waitMs > 0 && !mustEnd) return { kind: "waiting", waitMs };
      this.abort();
      return this.#tookTooLong(nowMs);
    }
    if ("opened" in outcome) return { kind: "opened", opened: outcome.opened };
    const { error } = outcome;
    return { kind: "failed", error, verdict: verdictOf(error), startedAtMs: this.#phaseSinceMs };
  }

  abort(): void {
    this.#controller.abort();
    const outcome = this.#outcome;
    if (outcome !== undefined && "opened" in outcome) abortQuietly(outcome.opened.wire);
  }

  async #dial(): Promise<Opened> {
    const { dialer, clock, connectTimeoutMs } = this.#options;
    const { signal } = this.#controller;
    const onLookedUp = (): void => {
      if (this.#phase === "look-up") this.#enter("connect", connectTimeoutMs);
    };
    const onHandshake = (withinMs: number): void =>
      this.#enter("handshake", withinMs + HANDSHAKE_MARGIN_MS);
    const wire = await dialer.dial(signal, onLookedUp, onHandshake);
    // What comes too late belongs to nobody.
    const session = signal.aborted ? undefined : this.#options.session();
    if (session?.open === undefined) {
      return { wire, reader: new WireReader(wire), state: new Map() };
    }
    // It ends by itself; see `openSession`.
    this.#enter("session", Infinity);
    return await openSession(wire, session, clock, signal);
  }

  #enter(phase: Phase, limitMs: number): void {
    this.#phase = phase;
    this.#phaseLimitMs = limitMs;
    this.#phaseSinceMs = this.#options.clock.nowMs();
    this.#options.onNews();
  }

  #tookTooLong(nowMs: number): AttemptResult {
    const startedAtMs = this.#phaseSinceMs;
    const waitedMs = nowMs - startedAtMs;
    if (this.#phase !== "look-up") {
      const words = this.#options.dialer.waits ? "nobody has connected" : "no answer";
      const error = new WireError("ETIMEDOUT", `${words} within ${seconds(waitedMs)}`);
      return { kind: "failed", error, verdict: undefined, startedAtMs };
    }
    const error = new WireError(
      "EAI_AGAIN",
      `its name could not be looked up within ${seconds(waitedMs)}: the name servers do not answer`,
    );
    return { kind: "failed", error, verdict: { kind: "lookup-hangs", waitedMs }, startedAtMs };
  }
}

function verdictOf(error: unknown): Verdict | undefined {
  if (error instanceof SessionRefusedError) {
    return { kind: "session-refused", words: error.message };
  }
  if (!(error instanceof WireError)) return undefined;
  // A proxy counts wrong passwords, too.
  if (error.code === "PROXY_AUTH") return { kind: "session-refused", words: error.message };
  return error.code === "SELF_CONNECTED" ? { kind: "self-connected" } : undefined;
}
