/**
 * How the senders of a spool hear of packets that other processes have stored: one watch for all
 * of them, and one question to the file which of its queues has grown.
 */

import type { Clock, FileWatch } from "../base/ports.ts";
import { type Doorbell, listenForRings } from "../queue/doorbell.ts";
import { lockPathOf } from "../queue/lock_file.ts";
import { LogLook } from "../queue/log_look.ts";
import type { LogSync } from "../queue/log_sync.ts";
import type { SqliteDatabase } from "../queue/sqlite/driver.ts";
import { mayLookAt } from "../queue/sqlite/file_identity.ts";
import type { DatabaseFile } from "../queue/store/database_file.ts";
import { windowOf } from "./queue_names.ts";

/** What of a queue's counts says whether others have changed it. */
export interface KnownCounts {
  /** The highest id. */
  readonly lastId: number;
  /** Its dead letters: an operator removes them beside a sender, and no id says so. */
  readonly deadPackets: number;
}

interface Listener {
  readonly queue: number;
  readonly onRing: (rung: boolean) => void;
  readonly known: () => KnownCounts;
}

interface SpoolBellOptions {
  readonly file: DatabaseFile;
  /** Its connection, by which its queues share statements. */
  readonly database: SqliteDatabase;
  readonly log: LogSync;
  readonly clock: Clock;
}

export class SpoolBell {
  readonly #options: SpoolBellOptions;
  readonly #listeners = new Set<Listener>();
  #doorbell: Doorbell | undefined;
  #look: LogLook | undefined;
  #version = -1;
  /** Somebody has begun to listen, and may have looked before the last question was asked. */
  #isNew = false;
  #isAsking = false;
  #asksAgain = false;

  constructor(options: SpoolBellOptions) {
    this.#options = options;
  }

  /** From now on calls back when others may have stored packets; see `QueuePlace.listen`. */
  listen(listener: Listener, watch?: FileWatch): Doorbell {
    const { file: { path }, clock } = this.#options;
    if (this.#doorbell === undefined) {
      const logPath = `${path}-wal`;
      this.#look = mayLookAt(logPath) ? new LogLook(logPath, clock, watch) : undefined;
      this.#doorbell = listenForRings(lockPathOf(path), (rung) => this.#take(rung), clock, watch);
    }
    const { mode, pollReason } = this.#doorbell;
    this.#listeners.add(listener);
    this.#isNew = true;
    return {
      mode,
      pollReason,
      stop: async () => {
        this.#listeners.delete(listener);
        if (this.#listeners.size > 0) return;
        const [doorbell, look] = [this.#doorbell, this.#look];
        this.#doorbell = this.#look = undefined;
        await Promise.all([doorbell?.stop(), look?.stop()]);
      },
    };
  }

  /** Another part of this process has stored packets. */
  ring(queue: number): void {
    for (const listener of this.#listeners) {
      if (listener.queue === queue) listener.onRing(true);
    }
  }

  #take(rung: boolean): void {
    const mayHaveNews = this.#look?.mayHaveNews() ?? true;
    if (rung || this.#isNew || mayHaveNews) void this.#ask();
    if (rung) return;
    // Some things a queue looks after once a second, whoever stores.
    for (const { onRing } of [...this.#listeners]) onRing(false);
  }

  /** Where the file cannot be asked, each queue finds that out by itself, and says so. */
  async #ask(): Promise<void> {
    this.#asksAgain = true;
    if (this.#isAsking) return;
    this.#isAsking = true;
    while (this.#asksAgain) {
      this.#asksAgain = false;
      let found: ReadonlyMap<number, KnownCounts> | undefined;
      try {
        found = await this.#options.log.read(() => this.#find());
      } catch {
        // See above.
      }
      // One of them may end while others are called.
      for (const { queue, known, onRing } of [...this.#listeners]) {
        if (found === undefined || isNews(found.get(queue), known())) onRing(true);
      }
    }
    this.#isAsking = false;
  }

  /** How each queue stands, where another process has committed, or for who is new; else none. */
  #find(): ReadonlyMap<number, KnownCounts> {
    const { file, database } = this.#options;
    const version = file.dataVersion();
    if (version === this.#version && !this.#isNew) return new Map();
    const rows = database.prepare(COUNTS).all([]);
    this.#version = version;
    this.#isNew = false;
    return new Map(
      rows.map((row) => {
        const [queue = 0, lastId = 0, deadPackets = 0] = row.map(Number);
        return [queue, { lastId, deadPackets }];
      }),
    );
  }
}

function isNews(found: KnownCounts | undefined, known: KnownCounts): boolean {
  return found !== undefined &&
    (found.lastId > known.lastId || found.deadPackets !== known.deadPackets);
}

const { baseId: FIRST_BASE } = windowOf(1);
const COUNTS = `SELECT queue, max(last_id, coalesce((SELECT max(packets.last_id) FROM packets ` +
  `WHERE packets.last_id > state.queue * ${FIRST_BASE} ` +
  `AND packets.last_id < (state.queue + 1) * ${FIRST_BASE}), 0) - queue * ${FIRST_BASE}), ` +
  "dead_packets FROM state";
