import process from "node:process";
import type { ClusterStats } from "../base/cluster_stats.ts";
import type { QueueFileError } from "../base/errors.ts";
import type { Clock, Logger } from "../base/ports.ts";
import { onAbort, unlessAborted } from "../base/waits.ts";
import { bootMs } from "../kernel/boot_clock.ts";
import { type Doorbell, type Ringer, ringerOf } from "../queue/doorbell.ts";
import type { QueuePlace } from "../queue/place.ts";
import type { Tenure } from "../queue/tenure.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { noLease, queueErrorOf } from "./errors.ts";
import { HEALTH, type Health, healthOf } from "./health.ts";
import { Lease, type LeaseRow, type LeaseTable } from "./lease.ts";
import type { Fields } from "./numbered_calls.ts";
import { type PostgresSettings, RING_INTERVAL_MS } from "./options.ts";
import { PostgresStore } from "./postgres_store.ts";
import { numberOf } from "./state_of.ts";
import { survivesWords } from "./survives.ts";

/** What the database has said of itself is not believed for longer. */
const STALE_MS = 5000;
/** A sender looks for packets this often even when nobody has rung. */
const POLL_MS = 1000;

/** What a place is made of; see `PostgresStoreOptions`. */
export interface PostgresPlaceOptions extends PostgresSettings {
  /** Its notifications are called after it. */
  readonly queueId: number;
  readonly path: string;
  /** The connection over which it was found. */
  readonly database: Database;
  /** How further connections are made. */
  readonly connection: DatabaseOptions;
  readonly lossTimeoutMs: number;
  readonly clock: Clock;
  readonly logger: Logger | undefined;
  readonly holder: string | undefined;
  readonly onStandBy: ((words: string) => void) | undefined;
  /** What the database has said of itself at the start. */
  readonly health: Health;
  /** Whether the database would notice what its disk has damaged. */
  readonly hasChecksums: boolean;
}

/** A queue in a database, and its lease. */
export class PostgresPlace implements QueuePlace {
  /** It has no files. */
  readonly lockPath = undefined;
  /** The database's clock decides what has expired. */
  readonly keepsTime = true;
  readonly store: PostgresStore;
  readonly ringer: Ringer;
  readonly #options: PostgresPlaceOptions;
  #health: Health;
  #healthAtMs: number;
  #weakness: string | null = null;
  #lease: Lease | undefined;
  #sentThroughId = 0;

  constructor(options: PostgresPlaceOptions) {
    const { database, address, path, durability, lossTimeoutMs, clock, queueId, logger } = options;
    this.#options = options;
    this.#health = options.health;
    this.#healthAtMs = clock.nowMs();
    this.#noteWeakness(options.health.weakness);
    this.store = new PostgresStore({
      ...{ database, path, durability, lossTimeoutMs, queueId, logger, clock },
      name: address.name,
      onWeakness: (words) => this.#noteWeakness(words),
    });
    this.ringer = ringerOf(RING_INTERVAL_MS, clock, () => {
      // Who does not hear it looks a second later.
      database.ask("SELECT sendq.ring($1)", [address.name]).catch(() => {});
    });
  }

  get survives(): string {
    return survivesWords(this.#options.durability, this.#health.replication, this.#weakness);
  }

  cluster(): ClusterStats {
    const { clock, weaker } = this.#options;
    const { replication } = this.#health;
    const words = this.#weakness;
    const isOld = clock.nowMs() - this.#healthAtMs > STALE_MS;
    return {
      lease: this.#lease?.stats() ?? null,
      replication: isOld ? { ...replication, state: "unknown", standbys: [] } : replication,
      weakness: words === null ? null : { words, refused: weaker === "refuse" },
    };
  }

  #noteWeakness(words: string | null): void {
    if (words === this.#weakness) return;
    this.#weakness = words;
    const { path, durability, weaker, logger } = this.#options;
    if (words === null) logger?.info(`Queue ${path}: a commit means again what it should`);
    else {
      logger?.warn(
        weaker === "refuse"
          ? `Queue ${path}: ${words}; nothing is stored until that is changed`
          : `Queue ${path}: ${words}, so that an acknowledged packet survives less than ` +
            `${durability} promises`,
      );
    }
  }

  /** No other database takes its place, but it may have been removed from its own. */
  misplaced(): QueueFileError | undefined {
    return this.store.removed;
  }

  /** Listens over a connection of its own. */
  listen(onRing: (rung: boolean) => void): Doorbell {
    const { clock, connection, queueId, address, durability } = this.#options;
    const channel = `sendq_${queueId}`;
    const database = new Database({
      ...connection,
      hello: { text: `LISTEN ${channel}`, args: [] },
      onNotify: () => onRing(true),
    });
    let cancel = () => {};
    let stopped = false;
    const tick = async (): Promise<void> => {
      try {
        const { rows: [row] } = await database.ask(HEALTH, [address.name, durability]);
        this.#health = healthOf(row?.["health"]);
        this.#healthAtMs = clock.nowMs();
        this.#noteWeakness(this.#health.weakness);
      } catch {
        // What was missed is found by looking.
      }
      if (stopped) return;
      onRing(false);
      if (!stopped) cancel = clock.setTimer(POLL_MS, () => void tick());
    };
    const first = tick();
    return {
      mode: "watch",
      pollReason: undefined,
      async stop() {
        stopped = true;
        cancel();
        database.close();
        await first;
      },
    };
  }

  /** Waits for its turn, and takes the lease. */
  async takeTenure(clock: Clock, signal?: AbortSignal): Promise<Tenure> {
    const stopGivingUp = onAbort(signal, () => this.store.gaveUpWaiting = true);
    try {
      // Where the queue was removed: one that was made anew under its name has another lease.
      await unlessAborted(this.store.state(), signal);
      return await this.#takeLease(clock, signal);
    } finally {
      stopGivingUp();
    }
  }

  async #takeLease(clock: Clock, signal: AbortSignal | undefined): Promise<Tenure> {
    const { connection, leaseTtlMs, standBy, path, holder, logger, onStandBy } = this.#options;
    if (!this.#options.hasChecksums) {
      logger?.warn(
        `Queue ${path}: the database keeps no checksums of its pages, so that what a disk has ` +
          "damaged is not noticed: pg_checksums --enable",
      );
    }
    const answerTimeoutMs = Math.min(connection.answerTimeoutMs, Math.max(500, leaseTtlMs / 2));
    // A lease runs out meanwhile.
    const database = new Database({
      ...connection,
      answerTimeoutMs,
      longestAnswerMs: answerTimeoutMs,
    });
    let lease: Lease | undefined;
    const logged = new Set<string>();
    try {
      lease = await Lease.take({
        table: tableOf(database, this.#options, {
          sentThroughId: () => this.#sentThroughId,
          onClosed: () => {
            // The next tenure may have begun before this one has heard that it was given up.
            if (this.#lease === lease) this.store.fence = this.#lease = undefined;
          },
        }),
        clock: { nowMs: bootMs, setTimer: (delayMs, call) => clock.setTimer(delayMs, call) },
        ttlMs: leaseTtlMs,
        holder: holder ?? `process ${process.pid}`,
        path,
        waits: standBy,
        tell: (words) => {
          // A database that is away now and then is not worth a line each time.
          if (!logged.has(words)) logger?.info(words);
          logged.add(words);
          onStandBy?.(words);
        },
        signal,
      });
      this.#sentThroughId = 0;
      this.store.fence = this.#lease = lease;
      return lease;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  beforeHandingOut(throughId: number): Promise<void> {
    return this.store.reserve(throughId);
  }

  rememberSent(id: number): void {
    this.#sentThroughId = Math.max(this.#sentThroughId, id);
  }

  /** The server has its own. */
  useSpareSpace(): void {}

  /** From now on no question is asked without an end. */
  closing(): void {
    this.store.closing();
  }
}

function tableOf(
  database: Database,
  { address: { name }, durability, path }: PostgresPlaceOptions,
  place: { readonly sentThroughId: () => number; readonly onClosed: () => void },
): LeaseTable {
  const ask = async (text: string, ...args: readonly unknown[]) => {
    try {
      const { rows, unreplicated } = await database.ask(text, [name, ...args]);
      if (unreplicated) throw new Error("the lease is on the primary alone");
      return rows[0];
    } catch (error) {
      throw queueErrorOf(error, path);
    }
  };
  return {
    async look(): Promise<LeaseRow> {
      const row = await ask("SELECT * FROM sendq.lease_look($1)");
      if (row === undefined) throw noLease(path);
      const { holder, tenure } = row;
      return {
        epoch: Number(row["epoch"]),
        tenure: typeof tenure === "string" ? tenure : undefined,
        beat: Number(row["beat"]),
        holder: typeof holder === "string" ? holder : undefined,
        ttlMs: Number(row["ttl_ms"]),
      };
    },
    async take({ epoch, tenure, beat }, holder, drawn, ttlMs) {
      const text = "SELECT sendq.lease_take($1, $2, $3, $4, $5, $6, $7, $8) AS taken";
      const seen = [epoch, tenure ?? null, beat];
      const row = await ask(text, ...seen, holder, drawn, Math.ceil(ttlMs), durability);
      const taken = row?.["taken"];
      if (taken == null) return undefined;
      const fields: Fields = { ...Object(taken) };
      return { epoch: numberOf(fields["epoch"]), beat: numberOf(fields["beat"]) };
    },
    async beat({ epoch, tenure, beat, ttlMs }, notice) {
      const text = "SELECT sendq.lease_beat($1, $2, $3, $4, $5, $6, $7) AS beat";
      const row = await ask(text, epoch, tenure, beat, Math.ceil(ttlMs), notice, durability);
      const answer = Number(row?.["beat"]);
      return answer === -1 ? "taken" : answer === -2 ? "gone-back" : answer;
    },
    async leave({ tenure }) {
      await ask("SELECT sendq.lease_leave($1, $2, $3)", tenure, place.sentThroughId());
    },
    close() {
      place.onClosed();
      database.close();
    },
  };
}
