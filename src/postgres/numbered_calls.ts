/**
 * Changes that are made once, however often they have to be asked for.
 *
 * Each has a number, and the database keeps the answer to the last one of each producer.
 * Where an answer is lost, the same question is asked again under the same number: either it
 * was done, and the answer is there, or it is done now. Where the second try says that it
 * cannot be done, the first may still be on its way: then the number is used up, so that it
 * does nothing any more, before anybody is told.
 */

import { messageOf, OutcomeUnknownError, seconds } from "../base/errors.ts";
import type { Logger } from "../base/ports.ts";
import { AGAIN_MS, type Answer, type Database } from "./database.ts";
import { ConnectionLostError, NO_QUEUE, queueErrorOf, sqlStateOf } from "./errors.ts";

/** What is asked: SQL with `$1` to `$3` for the queue, the producer and the number. */
export interface Question {
  readonly text: string;
  /** What stands for `$4` and so on; at each try anew, where time has a part in it. */
  readonly args: () => readonly unknown[];
}

/** An answer out of the database, not looked at yet. */
export type Fields = Readonly<Record<string, unknown>>;

export interface NumberedCallsOptions {
  readonly database: Database;
  /** The queue's name there. */
  readonly name: string;
  /** Its address, for people. */
  readonly path: string;
  /** For how long a closing queue asks on. */
  readonly closeTimeoutMs: number;
  /** Told after each change what its commit is missing; `null`: nothing. */
  readonly onWeakness?: ((words: string | null) => void) | undefined;
  /** Told of answers that are missing. */
  readonly logger?: Logger | undefined;
}

/** One queue's changes, one at a time. */
export class NumberedCalls {
  readonly #options: NumberedCallsOptions;
  readonly #database: Database;
  readonly #path: string;
  #producer = crypto.randomUUID();
  #last = 0;
  #hasAsked = false;
  #closeAtMs = Infinity;
  /** Since when answers are missing; `undefined`: none is. */
  #missingSinceMs: number | undefined;
  #wake: (() => void) | undefined;

  constructor(options: NumberedCallsOptions) {
    this.#options = options;
    this.#database = options.database;
    this.#path = options.path;
  }

  /** Under which id the database keeps the answers; another one after an unknown outcome. */
  get producer(): string {
    return this.#producer;
  }

  /** Whether the database may know the producer. */
  get hasAsked(): boolean {
    return this.#hasAsked;
  }

  /** From now on a lost answer is not asked for without an end. */
  closing(): void {
    const { closeTimeoutMs } = this.#options;
    this.#closeAtMs = this.#database.clock.nowMs() + closeTimeoutMs;
    this.#database.hurryIn(closeTimeoutMs);
    this.#wake?.();
  }

  /**
   * Asks until there is an answer.
   *
   * @throws {QueueFileError | FencedError} It was not done, and will not be.
   * @throws {OutcomeUnknownError} The queue was closed before there was an answer.
   * @throws {Error} The server's own with SQLSTATE SQ005: there is no room; or SQ001: the queue
   *   was removed.
   */
  async ask(question: Question): Promise<Fields> {
    let sent = false;
    for (;;) {
      let cause: unknown = UNREPLICATED;
      try {
        const answer = await this.#once(question.text, question.args());
        const fields = fieldsOf(answer);
        if (fields !== undefined) {
          this.#options.onWeakness?.(answer.weakness ?? null);
          return this.#count(fields);
        }
        sent = true;
      } catch (error) {
        const isLost = error instanceof ConnectionLostError;
        sent ||= isLost && error.sent;
        if (!sent) throw this.#toTell(error);
        if (!isLost) {
          const done = await this.#void(error);
          if (done !== undefined) return this.#count(done);
          throw this.#toTell(error);
        }
        cause = error;
      }
      await this.#rest(cause);
    }
  }

  /**
   * Uses up a number.
   *
   * @returns The answer, where it was done after all.
   * @throws {Error} The server's own with SQLSTATE SQ001: with the queue, all its numbers are gone.
   */
  async #void(cause: unknown): Promise<Fields | undefined> {
    // Whatever fails: another number would say nothing of this one, which may be stored.
    for (;;) {
      try {
        const answer = await this.#once("SELECT sendq.void($1, $2, $3) AS answer", []);
        const fields = fieldsOf(answer);
        if (fields !== undefined) {
          if (fields["void"] !== true) return fields;
          this.#last++;
          return undefined;
        }
      } catch (error) {
        if (sqlStateOf(error) === NO_QUEUE) throw error;
        cause = error;
      }
      await this.#rest(cause);
    }
  }

  #once(text: string, args: readonly unknown[]): Promise<Answer> {
    this.#hasAsked = true;
    return this.#database.ask(text, [this.#options.name, this.#producer, this.#last + 1, ...args]);
  }

  #count(fields: Fields): Fields {
    this.#noteAnswer();
    if (fields["counted"] === true) this.#last++;
    return fields;
  }

  #toTell(error: unknown): unknown {
    if (!(error instanceof ConnectionLostError)) this.#noteAnswer();
    const state = sqlStateOf(error);
    if (state === "SQ002") this.#abandon();
    return state === "SQ005" || state === NO_QUEUE ? error : queueErrorOf(error, this.#path);
  }

  /** What was numbered so far is nobody's any more. */
  #abandon(): void {
    this.#producer = crypto.randomUUID();
    this.#last = 0;
  }

  /** Tells it once an outage. */
  #noteMissing(why: string): void {
    const isFirst = this.#missingSinceMs === undefined;
    this.#missingSinceMs ??= this.#database.clock.nowMs();
    this.#options.logger?.[isFirst ? "warn" : "debug"](
      `Queue ${this.#path}: ${why}. What is being stored or changed is asked for again, and each ` +
        "answer is waited for longer, until it is known what became of it.",
    );
  }

  #noteAnswer(): void {
    const sinceMs = this.#missingSinceMs;
    if (sinceMs === undefined) return;
    this.#missingSinceMs = undefined;
    const awayMs = this.#database.clock.nowMs() - sinceMs;
    this.#options.logger?.info(
      `Queue ${this.#path}: the database has answered, after ${seconds(awayMs)} more`,
    );
  }

  /** Waits before the next try. */
  async #rest(cause: unknown): Promise<void> {
    const { clock } = this.#database;
    this.#noteMissing(messageOf(cause));
    if (clock.nowMs() >= this.#closeAtMs) {
      this.#abandon();
      throw new OutcomeUnknownError(
        `Queue ${this.#path}: it was closed while the database was asked to store something, ` +
          `and had not answered (${messageOf(cause)}). It is stored, or it is not: whoever ` +
          "stores it again may store it twice.",
        { cause },
      );
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = clock.setTimer(AGAIN_MS, resolve);
    this.#wake = resolve;
    await promise;
    cancel();
    this.#wake = undefined;
  }
}

const UNREPLICATED = "a wait for a standby was given up, so that nobody knows whether it has it";

/** `undefined`: what was answered may be on the primary alone, and has to be asked again. */
export function fieldsOf({ rows, unreplicated }: Answer): Fields | undefined {
  if (unreplicated) return undefined;
  const answer = rows[0]?.["answer"];
  if (typeof answer !== "object" || answer === null) {
    throw new TypeError("the database has answered something else than an object");
  }
  return { ...answer };
}
