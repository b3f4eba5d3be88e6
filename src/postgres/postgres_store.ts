/**
 * The packets of a queue in a database. Each call is one function of its schema, and so one
 * transaction; `sql/` has them.
 *
 * What is read for a sender is read in a transaction that has a number, and its removals say
 * which was the last one. So a database that loses what was read, in a failover or a restore,
 * loses that as well, and refuses them. The same transaction says which ids are going to be
 * sent, so that the next sender knows which may have been.
 */

import type { FencedError, QueueFileError } from "../base/errors.ts";
import { cutBatches } from "../base/packet_batch.ts";
import type { Clock, Logger, PacketBatch } from "../base/ports.ts";
import { BatchPacker } from "../queue/store/batches.ts";
import type {
  CommitRequest,
  CommitResult,
  Edit,
  EditRequest,
  EditResult,
  FileSpace,
  Limit,
  QueueStore,
  ReadResult,
  StoreReads,
  StoreState,
  TransactionResult,
} from "../queue/store/contract.ts";
import type { DeadLetter, DroppedPackets, Due, IdRange, PacketSpan } from "../queue/store/types.ts";
import { askAgain, type Database, type Row } from "./database.ts";
import {
  NO_QUEUE,
  queueErrorOf,
  removedQueue,
  saidBesides,
  sqlStateOf,
  takenOver,
} from "./errors.ts";
import type { HeldLease } from "./lease.ts";
import { type Fields, NumberedCalls } from "./numbered_calls.ts";
import type { PostgresDurability } from "./options.ts";
import {
  arrayOf,
  bytesOf,
  letterOf,
  numberOf,
  packetsIn,
  stateFields,
  stateOf,
} from "./state_of.ts";

/** The database forgets who has not asked for anything for thirty times this. */
const KEEP_MS = 86_400_000;
/** So many packets of this process may be sent before a further transaction has told so. */
const RESERVED_PACKETS = 1024;
/** How many runs a search for expired ones finds, and how much one transaction moves. */
const DUE_ROWS = 256;
const MOVE_PACKETS = 4096;
const MOVE_BYTES = 512 * 1024;
/** A value travels as hexadecimal digits, and a text here has a little less than 512 Mi of them. */
const MAX_COMMIT_BYTES = 255 * 1024 ** 2;
const COMMIT = `SELECT sendq.commit(${
  Array.from({ length: 22 }, (_, i) => `$${i + 1}`).join(", ")
}) AS answer`;
const EDIT = "SELECT sendq.edit($1, $2, $3, $4, $5) AS answer";

export interface PostgresStoreOptions {
  readonly database: Database;
  /** The queue's name there. */
  readonly name: string;
  /** Its number there: another queue may get the name, when this one is removed. */
  readonly queueId: number;
  /** Its address, without the password. */
  readonly path: string;
  readonly durability: PostgresDurability;
  /** For how long a read, or a queue that is being closed, asks for an answer that was lost. */
  readonly lossTimeoutMs: number;
  /** The time that passes; of the queue's own. */
  readonly clock: Pick<Clock, "nowMs">;
  /** Told after each change what its commit is missing; `null`: nothing. */
  readonly onWeakness?: (words: string | null) => void;
  /** Told of answers that are missing. */
  readonly logger?: Logger | undefined;
}

/** The right to remove, as the store needs it. */
export interface Fence extends Pick<HeldLease, "epoch" | "tenure"> {
  /** The database has gone back: it is lost. */
  goneBack(): void;
  /** Why it is lost; `undefined`: it is not. */
  readonly lost: FencedError | undefined;
}

/** What belongs to one tenure, and ends with it. */
interface Held {
  readonly fence: Fence;
  /** Under which id the database counts what was handed out, and how often it was. */
  readonly reader: string;
  reads: number;
  /** Ids up to this one are known to be sent, should this process die. */
  reservedThrough: number;
  /** Whether the database has made a change of this process meanwhile. */
  hasChanged: boolean;
}

/** A change, as it was answered. */
interface Changed {
  readonly fields: Fields;
  /** The newest version that was known when it was asked for. */
  readonly known: number;
  /** The tenure in which it was. */
  readonly held: Held | undefined;
}

export class PostgresStore implements QueueStore, StoreReads {
  readonly reads: StoreReads = this;
  readonly path: string;
  readonly #options: PostgresStoreOptions;
  readonly #calls: NumberedCalls;
  /** How many of the versions are ours. */
  #ownVersions = 0;
  #newest: { readonly version: number; readonly state: StoreState } | undefined;
  #held: Held | undefined;
  /** Those of tenures that are over, which the database need not know any more. */
  readonly #oldReaders: string[] = [];
  #reading: Promise<unknown> = Promise.resolve();
  #isClosing = false;
  #removed: QueueFileError | undefined;
  /** Why there is no tenure any more. */
  #lost: FencedError | undefined;
  #cancelKeeping = () => {};
  /** Whether a wait for the right to send was given up: its end waits for no answer that it can spare. */
  gaveUpWaiting = false;

  constructor(options: PostgresStoreOptions) {
    this.path = options.path;
    this.#options = options;
    this.#calls = new NumberedCalls({ ...options, closeTimeoutMs: options.lossTimeoutMs });
    this.#keep();
  }

  /** Only who has it may remove. */
  get fence(): Fence | undefined {
    return this.#held?.fence;
  }

  /**
   * Begins a tenure, or ends it: nothing that was known of the one before holds in the next. A
   * database that has gone back in between does not know its reads.
   */
  set fence(fence: Fence | undefined) {
    if (this.#held !== undefined) this.#oldReaders.push(this.#held.reader);
    this.#held = undefined;
    if (fence === undefined) return;
    this.#lost = undefined;
    this.#held = {
      fence,
      reader: crypto.randomUUID(),
      reads: 0,
      reservedThrough: 0,
      hasChanged: false,
    };
  }

  /** Why nothing can be done any more: somebody has removed the queue. */
  get removed(): QueueFileError | undefined {
    return this.#removed;
  }

  async commit(request: CommitRequest): Promise<CommitResult> {
    if (request.removeThrough > 0 && this.#lost !== undefined) throw this.#lost;
    const refused = new Map<number, Limit>();
    for (;;) {
      const kept = request.units.flatMap((unit, i) => refused.has(i) ? [] : [{ unit, i }]);
      const units = kept.map(({ unit }) => unit);
      const batches = batchesOf(units);
      try {
        const terms = this.#commitTerms(request);
        const packets = packed(units, batches);
        const changed = await this.#change(COMMIT, () => [
          ...terms,
          ...packets.counts,
          arrayOf(batches.map(({ expiresAtMs }) => this.#leftMs(expiresAtMs) ?? 0)),
          ...packets.bytes,
        ]);
        const firstId = numberOf(changed.fields["first"]);
        const placed = batches.map((batch) => ({ ...batch, firstId: batch.firstId + firstId - 1 }));
        return { ...this.#result(changed), batches: placed, refused };
      } catch (error) {
        if (sqlStateOf(error) !== "SQ005") throw error;
        // Nothing has happened yet: the same without those for which there is no room.
        const before = refused.size;
        for (const [index, limit] of refusalsOf(error)) {
          const at = kept[index]?.i;
          if (at !== undefined) refused.set(at, limit);
        }
        if (refused.size === before) throw queueErrorOf(error, this.path);
      }
    }
  }

  /** In the order of the arguments of `sendq.commit`. */
  #commitTerms(request: CommitRequest): unknown[] {
    const { removeThrough, handedOut, maxPackets, maxBytes, overflow } = request;
    const { queueId, durability } = this.#options;
    const { maxDeadPackets, maxDeadBytes } = request.deadLimits;
    return [
      ...[queueId, durability, this.#fenceTerms(), request.sentThrough],
      ...[maxDeadPackets, maxDeadBytes],
      ...[removeThrough, handedOut ?? null, request.sentThrough + RESERVED_PACKETS],
      ...[maxPackets, maxBytes, overflow],
    ];
  }

  /** For how long something is worth sending, at least a moment; `null`: for ever. */
  #leftMs(expiresAtMs: number): number | null {
    if (expiresAtMs === Infinity) return null;
    return Math.max(1, Math.ceil(expiresAtMs - this.#options.clock.nowMs()));
  }

  #fenceTerms(): Fields | null {
    if (this.#held === undefined) return null;
    const { fence: { epoch, tenure }, reader, reads } = this.#held;
    return { epoch, tenure, reader, reads };
  }

  /** Asks for a change. A database that does not know the last one ends the tenure. */
  async #change(text: string, args: () => readonly unknown[]): Promise<Changed> {
    if (this.#removed !== undefined) throw this.#removed;
    const known = this.#newest?.version ?? 0;
    const held = this.#held;
    try {
      return { fields: await this.#calls.ask({ text, args }), known, held };
    } catch (error) {
      this.#noteGoneBack(error, held);
      throw sqlStateOf(error) === NO_QUEUE ? this.#wasRemoved(error) : error;
    }
  }

  /** What was asked in a tenure that is over says nothing of the one that has begun since. */
  #noteGoneBack(error: unknown, held: Held | undefined): void {
    const state = sqlStateOf(error instanceof Error ? error.cause : undefined);
    // The last change that it does not know may be one from before the tenure.
    const isKnown = state === "SQ007" || (state === "SQ002" && held?.hasChanged === true);
    if (isKnown && held === this.#held) this.#goneBack();
  }

  #goneBack(): void {
    const { fence } = this;
    if (fence === undefined) return;
    this.fence = undefined;
    fence.goneBack();
    this.#lost = fence.lost;
  }

  async edit({ edit, deadLimits, sentThrough }: EditRequest): Promise<EditResult> {
    const removes = edit.kind === "bury" || edit.kind === "remove-packets";
    if (removes && this.#lost !== undefined) throw this.#lost;
    const { queueId, durability } = this.#options;
    const { maxDeadPackets, maxDeadBytes } = deadLimits;
    const bounds = { maxDeadPackets, maxDeadBytes };
    const terms = { durability, fence: this.#fenceTerms(), sentThrough, ...bounds };
    const changed = await this.#change(EDIT, () => {
      const leftMs = edit.kind === "requeue" ? this.#leftMs(edit.expiresAtMs) : null;
      return [queueId, { ...terms, ...editTerms(edit), leftMs }];
    });
    const { fields } = changed;
    const packets = numberOf(fields["packets"]);
    const firstId = fields["firstId"];
    return {
      ...this.#result(changed),
      packets,
      bytes: numberOf(fields["bytes"]),
      damagedPackets: numberOf(fields["damagedPackets"]),
      ids: typeof firstId === "number" ? { firstId, lastId: firstId + packets - 1 } : undefined,
    };
  }

  #result({ fields, known, held }: Changed): TransactionResult {
    const state = this.#adopt(fields["state"], known);
    if (fields["counted"] === true) {
      this.#ownVersions++;
      if (held !== undefined) {
        held.hasChanged = true;
        const reserved = numberOf(fields["reservedThrough"]);
        held.reservedThrough = Math.max(held.reservedThrough, reserved);
      }
    }
    const packets = numberOf(fields["droppedPackets"]);
    const dropped: DroppedPackets | undefined = packets === 0 ? undefined : {
      packets,
      bytes: numberOf(fields["droppedBytes"]),
      throughId: numberOf(fields["droppedThrough"]),
    };
    return { state, setAside: setAsideIn(fields["setAside"]), dropped };
  }

  /**
   * An answer that was overtaken by a later one tells nothing.
   *
   * @param known The newest version known when the question was asked: one that is older than
   *   that is no late answer.
   */
  #adopt(value: unknown, known: number): StoreState {
    const fields = stateFields(value);
    if (numberOf(fields.id) !== this.#options.queueId) throw this.#wasRemoved();
    const version = numberOf(fields.version);
    if (version < known) this.#goneBack();
    else if (this.#newest !== undefined && version < this.#newest.version) {
      return this.#newest.state;
    }
    const state = stateOf(fields);
    this.#newest = { version, state };
    return state;
  }

  async read(afterId: number, maxBytes: number): Promise<ReadResult> {
    const rows = await this.#ask("SELECT * FROM sendq.read($1, $2, $3)", [afterId, maxBytes]);
    return this.#readIn(rows, afterId, maxBytes);
  }

  /** Writes that it was handed out; without a tenure nobody sends it. */
  async handOut(afterId: number, maxBytes: number): Promise<ReadResult> {
    if (this.#held === undefined) return await this.read(afterId, maxBytes);
    return this.#readIn(await this.#handOut(afterId, maxBytes, 0), afterId, maxBytes);
  }

  #readIn(rows: readonly Row[], afterId: number, maxBytes: number): ReadResult {
    const { batches, damaged } = packetsIn(rows, this.#options.clock.nowMs());
    const first = this.#newest?.state.removedThrough ?? 0;
    return { batches: cutBatches(batches, Math.max(afterId, first), maxBytes), damaged };
  }

  /**
   * Says what is going to be sent, where nothing has said so yet.
   *
   * @throws {FencedError} This process may not send any more.
   */
  async reserve(throughId: number): Promise<void> {
    if (this.#held === undefined) throw this.#lost ?? takenOver(this.path);
    if (throughId > this.#held.reservedThrough) await this.#handOut(0, 0, throughId);
  }

  /** One at a time: each has a number. */
  #handOut(afterId: number, maxBytes: number, throughId: number): Promise<readonly Row[]> {
    const rows = this.#reading.then(async () => {
      const held = this.#held;
      if (held === undefined) throw this.#lost ?? takenOver(this.path);
      const args = [held.reader, held.reads + 1, this.#fenceTerms(), afterId, maxBytes];
      try {
        const text = "SELECT * FROM sendq.hand_out($1, $2, $3, $4, $5, $6, $7)";
        const rows = await this.#ask(text, [...args, throughId]);
        held.reads++;
        const lastId = Number(rows.findLast((row) => row["fault"] == null)?.["last_id"] ?? 0);
        held.reservedThrough = Math.max(held.reservedThrough, throughId, lastId);
        return rows;
      } catch (error) {
        this.#noteGoneBack(error, held);
        throw held.fence.lost ?? error;
      }
    });
    this.#reading = rows.catch(() => {});
    return rows;
  }

  /** By the database's time, which need not be that of who asks. See {@linkcode QueueStore.due}. */
  async due(afterId: number, _nowMs: number, order: "by-id" | "by-time"): Promise<Due> {
    const args = [afterId, order === "by-time", DUE_ROWS];
    const [next, ...rows] = await this.#ask("SELECT * FROM sendq.due($1, $2, $3, $4)", args);
    const ranges: IdRange[] = [];
    let packets = 0, bytes = 0;
    for (const row of rows) {
      const firstId = Number(row["first_id"]);
      const lastId = Number(row["last_id"]);
      packets += lastId + 1 - firstId;
      bytes += Number(row["bytes"]);
      if (ranges.length > 0 && (packets > MOVE_PACKETS || bytes > MOVE_BYTES)) break;
      const before = ranges.at(-1);
      if (before !== undefined && before.lastId + 1 === firstId) {
        ranges[ranges.length - 1] = { firstId: before.firstId, lastId };
      } else ranges.push({ firstId, lastId });
    }
    const nextInMs = next?.["next_in_ms"];
    const nowMs = this.#options.clock.nowMs();
    return { ranges, nextAtMs: nextInMs == null ? Infinity : nowMs + Number(nextInMs) };
  }

  async deadLetters(afterId: number, maxBytes: number): Promise<DeadLetter[]> {
    const limit = Math.min(maxBytes, Number.MAX_SAFE_INTEGER);
    const rows = await this.#ask("SELECT * FROM sendq.dead_letters($1, $2, $3)", [afterId, limit]);
    return rows.map((row) => ({ ...letterOf(row), payload: bytesOf(row["payload"]) }));
  }

  async state(): Promise<StoreState> {
    const known = this.#newest?.version ?? 0;
    const [row] = await this.#ask("SELECT sendq.state($1) AS state", []);
    return this.#adopt(row?.["state"], known);
  }

  /** Counts the changes of others. */
  async dataVersion(): Promise<number> {
    const own = this.#ownVersions;
    const [row] = await this.#ask("SELECT sendq.version($1) AS version", []);
    return Number(row?.["version"]) - own;
  }

  /** The server gives its space back by itself. */
  space(): FileSpace {
    return { pages: 0, freePages: 0 };
  }

  vacuumStep(): FileSpace {
    return this.space();
  }

  /** The server does it by itself. */
  checkpoint(): boolean {
    return true;
  }

  /** From now on no call waits for ever. */
  closing(): void {
    this.#isClosing = true;
    this.#calls.closing();
  }

  /** Whoever stores nothing for a month is still there. */
  #keep(): void {
    const { database, name } = this.#options;
    this.#cancelKeeping = database.clock.setTimer(KEEP_MS, () => {
      const reader = this.#held === undefined ? "" : `,${this.#held.reader}`;
      const ids = `{${this.#calls.producer}${reader}}`;
      database.ask("SELECT sendq.keep($1, $2)", [name, ids]).catch(() => {
        // A day later again.
      });
      this.#keep();
    });
  }

  /** Ends the connection; no answer will be asked for again. */
  async close(): Promise<void> {
    const { database, name } = this.#options;
    this.#cancelKeeping();
    this.fence = undefined;
    const ids = [...this.#oldReaders];
    if (this.#calls.hasAsked || !this.gaveUpWaiting) ids.push(this.#calls.producer);
    try {
      for (const id of ids) {
        if (database.isAway) break;
        await database.ask("SELECT sendq.forget($1, $2)", [name, id]);
      }
    } catch {
      // It is forgotten a month later.
    }
    database.close();
  }

  /** Asks what may be asked twice: where the answer is lost, or on the primary alone, again. */
  async #ask(text: string, args: readonly unknown[]): Promise<readonly Row[]> {
    if (this.#removed !== undefined) throw this.#removed;
    const { database, name, lossTimeoutMs } = this.#options;
    try {
      return await askAgain(database, text, [name, ...args], {
        timeoutMs: lossTimeoutMs,
        isOver: () => this.#isClosing,
      });
    } catch (error) {
      if (sqlStateOf(error) === NO_QUEUE) throw this.#wasRemoved(error);
      throw queueErrorOf(error, this.path);
    }
  }

  /** For good: a queue that is made under its name later is another one. */
  #wasRemoved(cause?: unknown): QueueFileError {
    return this.#removed ??= removedQueue(this.path, cause);
  }
}

/** The packets of units as runs, with ids from 1 on: the database knows the first. */
function batchesOf(units: readonly PacketSpan[]): PacketBatch[] {
  const packer = new BatchPacker(1);
  for (const unit of units) packer.add(unit);
  return packer.finish();
}

/** The same as arguments of `sendq.commit`: those before what is left of the time, and behind it. */
function packed(units: readonly PacketSpan[], batches: readonly PacketBatch[]) {
  const bytes = batches.reduce((sum, batch) => sum + batch.bytes.length, 0);
  if (bytes > MAX_COMMIT_BYTES) {
    throw new RangeError(
      `${bytes} bytes are more than one transaction may store on PostgreSQL ` +
        `(${MAX_COMMIT_BYTES}): store them in several calls`,
    );
  }
  const payload = new Uint8Array(bytes);
  let end = 0;
  for (const batch of batches) {
    payload.set(batch.bytes, end);
    end += batch.bytes.length;
  }
  return {
    counts: [
      arrayOf(units.map((unit) => unit.packets)),
      arrayOf(units.map((unit) => unit.bytes)),
      arrayOf(batches.map((batch) => batch.ends.length)),
      arrayOf(batches.map((batch) => batch.bytes.length)),
    ],
    bytes: [`{${batches.map((batch) => batch.ends.join(",")).join(",")}}`, payload],
  };
}

function editTerms(edit: Edit): Fields {
  switch (edit.kind) {
    case "bury":
      return { ...edit, words: edit.words ?? null };
    case "requeue":
    case "remove-packets":
    case "remove-dead":
      return { kind: edit.kind, ranges: [edit.range] };
    case "set-aside":
      return { kind: edit.kind, ranges: [{ firstId: edit.lastId, lastId: edit.lastId }] };
    case "keep-time":
      return { kind: edit.kind, ranges: [] };
    default:
      throw new TypeError(`Unknown edit ${JSON.stringify(edit satisfies never)}`);
  }
}

/** What rows that were not as they were stored became; nothing, where the answer does not say. */
function setAsideIn(list: unknown): TransactionResult["setAside"] {
  if (!Array.isArray(list)) return [];
  return list.map((each) => {
    const { packets, bytes, firstId, lastId } = fieldsIn(each);
    const ids = { firstId: numberOf(firstId), lastId: numberOf(lastId) };
    return { packets: numberOf(packets), bytes: numberOf(bytes), ids };
  });
}

function* refusalsOf(error: unknown): Generator<[number, Limit]> {
  const list: unknown = JSON.parse(saidBesides(error, "detail"));
  for (const entry of Array.isArray(list) ? list : []) {
    if (!Array.isArray(entry)) continue;
    const [index, limit] = entry;
    if (typeof index === "number" && (limit === "maxPackets" || limit === "maxBytes")) {
      yield [index, limit];
    }
  }
}

function fieldsIn(value: unknown): Fields {
  if (typeof value !== "object" || value === null) throw new TypeError("an answer has no fields");
  return { ...value };
}
