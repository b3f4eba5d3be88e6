/**
 * A sender's condition in words, for a person who did not write it.
 *
 * @module
 */

import { describeVerdict, type VerdictKind } from "../delivery/liveness.ts";
import type { DeliveryStatus } from "../delivery/status.ts";

/** State and verdict in words. */
export interface Condition {
  /**
   * - `"good"`: packets arrive, or would
   * - `"idle"`: nothing to do, or closed
   * - `"busy"`: on its way to good, nothing is wrong yet
   * - `"warning"`: delivers, but not as it should
   * - `"bad"`: does not deliver
   */
  readonly tone: "good" | "idle" | "busy" | "warning" | "bad";
  /** A few words, for example `"Not delivering"`. */
  readonly headline: string;
  /** One sentence that says why. */
  readonly detail: string;
}

/** What a change of status says about the condition. */
type Change = Pick<DeliveryStatus, "state" | "verdict" | "error">;

/** Verdicts that say why a connection is gone; they stay when it is. */
const CAUSES: ReadonlySet<VerdictKind> = new Set<VerdictKind>([
  "peer-stalled",
  "no-response",
  "path-dead",
  "local-fault",
  "reset",
  "timed-out",
  "closes-early",
  "wire-failed",
  "self-connected",
  "lookup-hangs",
]);

/** Follows a sender's statuses and says where it stands. */
export class ConditionTracker {
  #latest: Change | undefined;
  /** Why there is no connection: set by a failure, until the next connect or idleness. */
  #trouble: { readonly cause: string; attempt: string | undefined } | undefined;

  /**
   * Takes the next status.
   *
   * @returns Whether it tells of a failure.
   */
  take(status: Change): boolean {
    const before = this.#latest?.state;
    this.#latest = status;
    const { state, verdict, error } = status;
    const up = state === "connected" || state === "ending";
    const lost = !up && (before === "connected" || before === "ending");
    const cause = CAUSES.has(verdict.kind) ? describeVerdict(verdict) : undefined;
    if (up || state === "idle" || state === "closed") this.#trouble = undefined;
    else if (lost && cause !== undefined) this.#trouble = { cause, attempt: undefined };
    else if (error !== undefined) {
      this.#trouble ??= { cause: cause ?? error.message, attempt: undefined };
      this.#trouble.attempt = error.message;
    }
    return error !== undefined || (lost && cause !== undefined);
  }

  /**
   * Says where the sender stands.
   *
   * @param queuedPackets What lies on disk now.
   * @param moving Whether packets were acknowledged in the last seconds.
   */
  condition(queuedPackets: number, moving: boolean): Condition {
    if (this.#latest === undefined) {
      return { tone: "busy", headline: "Starting", detail: "The sender was opened just now." };
    }
    const { state, verdict } = this.#latest;
    switch (state) {
      case "idle":
        return { tone: "idle", headline: "Idle", detail: "Nothing to send, no connection needed." };
      case "closed":
        return queuedPackets === 0
          ? {
            tone: "idle",
            headline: "Closed",
            detail: "The sender has ended; the queue is empty.",
          }
          : {
            tone: "bad",
            headline: "Closed",
            detail: "The sender has ended; what is queued waits for the next start.",
          };
      case "connecting":
      case "backing-off":
        return this.#withoutConnection();
      case "connected":
      case "ending":
        return connected(state, verdict.kind, sentence(describeVerdict(verdict)), moving);
      default:
        throw new TypeError(`Unknown state ${JSON.stringify(state satisfies never)}`);
    }
  }

  #withoutConnection(): Condition {
    if (this.#trouble === undefined) {
      return { tone: "busy", headline: "Connecting", detail: "On the way to the server." };
    }
    const { cause, attempt } = this.#trouble;
    const more = attempt === undefined || attempt === cause ? "" : ` Last attempt: ${attempt}.`;
    return {
      tone: "bad",
      headline: "Not delivering",
      detail: `${sentence(cause)} Trying to connect again.${more}`,
    };
  }
}

function connected(
  state: "connected" | "ending",
  verdict: VerdictKind,
  words: string,
  moving: boolean,
): Condition {
  switch (verdict) {
    case "healthy":
      if (state === "ending") {
        return { tone: "good", headline: "Finishing", detail: "The connection is ended in order." };
      }
      return moving
        ? {
          tone: "good",
          headline: "Delivering",
          detail: "The server acknowledges what it is sent.",
        }
        : { tone: "good", headline: "Connected", detail: "Everything is acknowledged." };
    case "slow":
      return { tone: "warning", headline: "Slow", detail: words };
    case "peer-stalled":
      return { tone: "warning", headline: "Server does not read", detail: words };
    case "peer-closed":
      return { tone: "good", headline: "Finishing", detail: words };
    case "closes-early":
      return { tone: "warning", headline: "Server closes each connection", detail: words };
    case "removal-stuck":
      return { tone: "warning", headline: "Queue cannot shrink", detail: words };
    default:
      return { tone: "bad", headline: "Not delivering", detail: words };
  }
}

/** In one line: the reason only where something is wrong. */
export function inOneLine({ tone, headline, detail }: Condition): string {
  return tone === "warning" || tone === "bad" ? `${headline}: ${detail}` : headline;
}

function sentence(words: string): string {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}
