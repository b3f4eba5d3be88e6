/**
 * How the cluster stands, asked from a machine of its own.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { LineChild } from "../lab/child.ts";
import type { ClusterNetwork, DatabaseHost } from "./network.ts";

const PROGRAM = new URL("./watcher_program.ts", import.meta.url).pathname;
const LOOK_MS = 200;

/** A server of the cluster, as Patroni sees it. */
export interface Member {
  readonly host: DatabaseHost;
  readonly isPrimary: boolean;
  readonly isRunning: boolean;
  /** Whether commits wait for it. */
  readonly isSynchronous: boolean;
  readonly timeline: number;
}

/** What the watcher can be asked. */
export type WatcherQuestion =
  | { readonly ask: "members" }
  | { readonly ask: "setup"; readonly url: string }
  /** Changes what Patroni is told, on all machines. */
  | { readonly ask: "configure"; readonly settings: Readonly<Record<string, unknown>> }
  /** @default the primary */
  | { readonly ask: "sql"; readonly text: string; readonly host?: DatabaseHost };

/** The primary: that of the newest timeline, where two believe to be it. */
export function primaryOf(members: readonly Member[]): DatabaseHost | undefined {
  return members.filter(({ isPrimary, isRunning }) => isPrimary && isRunning)
    .toSorted((a, b) => b.timeline - a.timeline)[0]?.host;
}

/** One who watches. */
export class Watcher implements AsyncDisposable {
  readonly #child: LineChild;
  #turn: Promise<unknown> = Promise.resolve();

  /** Starts it. */
  constructor(network: ClusterNetwork) {
    this.#child = new LineChild(network.spawnerIn("watcher"), Deno.execPath(), [
      ...["run", "--quiet", "--allow-all", PROGRAM],
    ]);
  }

  /** The servers that answer. */
  async members(): Promise<readonly Member[]> {
    return await this.#ask({ ask: "members" });
  }

  /** The primary, if there is one. */
  async primary(): Promise<DatabaseHost | undefined> {
    return primaryOf(await this.members());
  }

  /** Makes a queue, and the schema where there is none. */
  async setUp(url: string): Promise<void> {
    await this.#ask({ ask: "setup", url });
  }

  /** Changes what Patroni is told, on all machines. */
  async configure(settings: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#ask({ ask: "configure", settings });
  }

  /** Runs SQL, on the primary or on one server. */
  async sql(
    text: string,
    host?: DatabaseHost,
  ): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return await this.#ask({ ask: "sql", text, ...(host === undefined ? {} : { host }) });
  }

  /**
   * Waits until a primary and so many standbys run, and one of these may take over: Patroni has
   * written down which, and it is the one that commits wait for. What was written down before the
   * primary was started may be there for some seconds more, and says nothing.
   *
   * @throws {Error} It took too long; says how it stood.
   */
  async untilReady(standbys: number, deadlineMs: number): Promise<void> {
    let last: unknown;
    const isReady = async () => {
      const members = await this.members();
      const running = members.filter(({ isRunning }) => isRunning);
      last = members;
      const primaries = running.filter(({ isPrimary }) => isPrimary);
      if (primaries.length !== 1 || running.length !== standbys + 1) return false;
      try {
        const rows = await this.sql(
          "SELECT application_name, sync_state, current_setting('synchronous_standby_names') " +
            "AS names FROM pg_stat_replication WHERE state = 'streaming'",
          primaries[0]?.host,
        );
        last = { members, rows };
        const waitedFor = rows.find((row) =>
          row["sync_state"] === "sync" && row["names"] === row["application_name"]
        );
        return rows.length === standbys &&
          running.some(({ host, isSynchronous }) =>
            isSynchronous && host === waitedFor?.["application_name"]
          );
      } catch (error) {
        last = error;
        return false;
      }
    };
    if (!await until(deadlineMs, isReady)) {
      throw new Error(`the cluster did not come up: ${Deno.inspect(last)}`);
    }
  }

  /**
   * Asks the primary something that changes nothing, and waits until there is one that answers.
   *
   * @throws {Error} What kept it from answering last.
   */
  async look(
    text: string,
    deadlineMs: number,
  ): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const found: { rows?: Awaited<ReturnType<Watcher["sql"]>>; error?: unknown } = {};
    const isAnswered = async () => {
      try {
        found.rows = await this.sql(text);
        return true;
      } catch (error) {
        found.error = error;
        return false;
      }
    };
    await until(deadlineMs, isAnswered);
    if (found.rows === undefined) throw found.error;
    return found.rows;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }

  /** One question at a time. */
  // deno-lint-ignore no-explicit-any
  #ask(question: WatcherQuestion): Promise<any> {
    const turn = this.#turn.then(async () => {
      await this.#child.say(JSON.stringify(question));
      const { value, error } = JSON.parse(await this.#child.hear());
      if (error !== undefined) throw new Error(error);
      return value;
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

/** Looks again and again; says whether it came about in time. */
export async function until(
  deadlineMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<boolean> {
  const deadline = performance.now() + deadlineMs;
  while (!await condition()) {
    if (performance.now() > deadline) return false;
    await delay(LOOK_MS);
  }
  return true;
}
