/** When the next heartbeat is due, and whether the last one was answered. */

import { latin1 } from "../session/pattern.ts";
import type { ReadyHeartbeat } from "../session/session.ts";
import { Debt } from "./owed.ts";

/** So much of what the server has said since is searched for the answer. */
const KEPT_CHARACTERS = 4096;

/** The heartbeats of one connection. One at a time: the next one waits for the answer. */
export class Heartbeats {
  readonly #plan: ReadyHeartbeat;
  /** The answer to the last one, since that went out. */
  readonly debt: Debt;
  #heard = "";

  constructor(plan: ReadyHeartbeat) {
    this.#plan = plan;
    this.debt = new Debt(plan.answerTimeoutMs);
  }

  get bytes(): Uint8Array {
    return this.#plan.send;
  }

  /**
   * When the next one is due; `Infinity`: first the last one has to be answered.
   *
   * @param quietSinceMs When the kernel last took bytes.
   */
  dueInMs(nowMs: number, quietSinceMs: number): number {
    if (this.awaitsAnswer) return Infinity;
    return Math.max(0, quietSinceMs + this.#plan.idleMs - nowMs);
  }

  /** One goes out. */
  sent(watchedMs: number): void {
    if (this.#plan.expect === undefined) return;
    this.debt.sinceMs = watchedMs;
    this.#heard = "";
  }

  /** Whether the last one waits for its answer. */
  get awaitsAnswer(): boolean {
    return this.debt.sinceMs !== undefined;
  }

  /**
   * The server has said something.
   *
   * @returns How many of these bytes it has said to a heartbeat: those up to the end of the
   *   answer, or all where that has not come yet.
   */
  heard(chunk: Uint8Array): number {
    const { expect } = this.#plan;
    if (!this.awaitsAnswer || expect === undefined) return 0;
    this.#heard = (this.#heard + latin1(chunk)).slice(-KEPT_CHARACTERS - chunk.length);
    const found = expect.exec(this.#heard);
    if (found === null) return chunk.length;
    this.debt.sinceMs = undefined;
    const behindBytes = this.#heard.length - found.index - found[0].length;
    return Math.max(0, chunk.length - behindBytes);
  }
}
