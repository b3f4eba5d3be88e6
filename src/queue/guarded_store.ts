/**
 * A store that looks after its file: it stores nothing in a file that its path no
 * longer leads to, and it removes on a full disk, too.
 */

import { QueueFileError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import { diskFull, isDiskFull, mayBeFull, queueFileError } from "./sqlite/file_error.ts";
import type { QueueFiles } from "./sqlite/file_identity.ts";
import type {
  CommitRequest,
  CommitResult,
  EditRequest,
  EditResult,
  FileSpace,
  MakesWay,
  QueueStore,
  StoreReads,
  StoreState,
} from "./store/contract.ts";
import { refuseGoneBack } from "./store/transaction.ts";

/** While packets are stored, the files are looked at this often. */
const LOOK_MS = 1000;
/** A reserve that is not whole is seen to this often, and so is a log that cannot grow. */
const RESTORE_MS = 1000;
/**
 * After a removal in the reserve, up to 16 MiB are given back to the disk, in steps
 * whose log has room in a small reserve, too.
 */
const VACUUM_STEPS = 128;
const VACUUM_PAGES = 32;
const STEPS_BETWEEN_CHECKPOINTS = 8;

/** Dead letters for which there is no room keep no packets from being delivered. */
const NO_LETTERS = [undefined, "these"] as const;
const FEWER_LETTERS = [undefined, "oldest", "these"] as const;

/**
 * Disk space that can be given up for a removal; see `SenderLock`.
 *
 * @category Tools
 */
export interface SpareSpace {
  /** Gives it up. Returns whether there was any. */
  releaseReserve(): boolean;
  /** Puts it back, as far as there is room. Returns whether it is whole. */
  restoreReserve(): boolean;
}

export class GuardedStore implements QueueStore {
  readonly path: string;
  readonly reads: StoreReads;
  readonly #store: QueueStore;
  readonly #files: QueueFiles;
  readonly #clock: Clock;
  #misplaced: QueueFileError | undefined;
  #spare: SpareSpace | undefined;
  /** Whether the reserve was given up and is not whole again. */
  #spareIsOut = false;
  #restoredAtMs = -Infinity;
  #shortenedAtMs = -Infinity;
  #isClosed = false;
  #prepare: (() => void) | undefined;
  /** The highest id that is known to have been in the file. */
  #lastId = 0;

  /**
   * @param files The store's files, as they were when it was opened.
   * @param prepare Called once, before anything is stored.
   */
  constructor(
    store: QueueStore,
    files: QueueFiles,
    clock: Clock,
    prepare?: () => void,
  ) {
    this.path = store.path;
    this.reads = { ...store.reads, state: () => this.#state(store) };
    this.#store = store;
    this.#files = files;
    this.#clock = clock;
    this.#prepare = prepare;
  }

  /**
   * From now on removals on a full disk use this space.
   *
   * @param spare The same as before changes nothing; `undefined`: there is none any more.
   */
  useSpareSpace(spare: SpareSpace | undefined): void {
    if (spare === this.#spare) return;
    this.#spare = spare;
    this.#spareIsOut = false;
  }

  /**
   * Looks whether the path still leads to the file. Once it does not, nothing is stored any more.
   *
   * @returns What is wrong.
   */
  misplaced(): QueueFileError | undefined {
    return this.#noticed(() => this.#files.misplaced());
  }

  #noticed(look: () => string | undefined): QueueFileError | undefined {
    // Whoever closes a queue last removes SQLite's own files.
    const known = this.#isClosed || this.#misplaced !== undefined;
    const words = known ? undefined : look();
    if (words !== undefined) this.#misplaced = queueFileError("misplaced", this.path, words);
    return this.#misplaced;
  }

  /** A removal alone goes through on a full disk. */
  commit(request: CommitRequest): CommitResult | Promise<CommitResult> {
    if (request.units.length === 0) {
      return this.inReserve((makesWay) => this.#commit({ ...request, makesWay }), NO_LETTERS);
    }
    this.#checkIntake();
    try {
      const result = this.#commit(request);
      return result instanceof Promise
        ? result.catch((error) => this.#commitAgain(request, error))
        : result;
    } catch (error) {
      return this.#commitAgain(request, error);
    }
  }

  /** What removes goes through on a full disk. */
  edit(request: EditRequest): EditResult | Promise<EditResult> {
    const { edit } = request;
    if (edit.kind === "requeue") {
      this.#checkIntake();
      return this.#edit(request);
    }
    return this.inReserve(
      (makesWay) => this.#edit({ ...request, makesWay }),
      edit.kind !== "bury" || edit.reason === "expired" ? NO_LETTERS : FEWER_LETTERS,
    );
  }

  #commit(request: CommitRequest): CommitResult | Promise<CommitResult> {
    return this.#watched(() => this.#store.commit({ ...request, lastIdAtLeast: this.#lastId }));
  }

  #edit(request: EditRequest): EditResult | Promise<EditResult> {
    return this.#watched(() => this.#store.edit({ ...request, lastIdAtLeast: this.#lastId }));
  }

  /** The counts; and whether the file has gone back, for whoever asks where it is. */
  async #state(store: QueueStore): Promise<StoreState> {
    const { state } = await this.#watched(async () => ({ state: await store.reads.state() }));
    return state;
  }

  #watched<T extends { readonly state: StoreState }>(work: () => T | Promise<T>): T | Promise<T> {
    // What is asked later may be answered sooner.
    const before = this.#lastId;
    const know = (result: T): T => {
      const { state } = result;
      refuseGoneBack(state, before, this.path);
      this.#lastId = Math.max(this.#lastId, state.lastId);
      return result;
    };
    const note = (error: unknown): never => {
      const isMisplaced = error instanceof QueueFileError && error.reason === "misplaced";
      if (isMisplaced) this.#misplaced ??= error;
      throw error;
    };
    try {
      const result = work();
      return result instanceof Promise ? result.then(know).catch(note) : know(result);
    } catch (error) {
      return note(error);
    }
  }

  /** @throws {QueueFileError} Nothing may be stored now. */
  #checkIntake(): void {
    const error = this.#noticed(() => this.#files.misplacedWithin(LOOK_MS));
    if (error !== undefined) throw error;
    const nowMs = this.#clock.nowMs();
    this.#prepare?.();
    this.#prepare = undefined;
    // Else packets would take the room that the next removal needs.
    if (!this.#spareIsOut) return;
    if (nowMs - this.#restoredAtMs >= RESTORE_MS) this.#restore();
    if (this.#spareIsOut) {
      throw diskFull(this.path);
    }
  }

  /**
   * On a full disk the log may be what cannot grow, although the file has room inside: so
   * it is moved into the file, which does not grow by it then, and begins anew.
   */
  async #commitAgain(request: CommitRequest, error: unknown): Promise<CommitResult> {
    const nowMs = this.#clock.nowMs();
    if (!isDiskFull(error) || nowMs - this.#shortenedAtMs < RESTORE_MS) throw error;
    this.#shortenedAtMs = nowMs;
    await this.#unlessFull(() => this.#store.checkpoint());
    let result: CommitResult;
    try {
      result = await this.#commit(request);
    } catch (again) {
      if (!isDiskFull(again)) throw again;
      result = await this.#commitInShrunk(request, again);
    }
    this.#shortenedAtMs = -Infinity;
    return result;
  }

  /** Where most of the file is free, shrinking it takes the reserve; storing does not. */
  async #commitInShrunk(request: CommitRequest, error: unknown): Promise<CommitResult> {
    const { freePages } = await this.#store.space();
    if (freePages === 0 || this.#spare?.releaseReserve() !== true) throw error;
    this.#spareIsOut = true;
    await this.#giveBack();
    if (this.#spareIsOut) throw error;
    return await this.#commit(request);
  }

  /**
   * Does something that makes room, or without which none is ever made; on a full disk, in the
   * reserve.
   *
   * @param ways Tried in turn, where there is no room for it even so.
   */
  async inReserve<T>(
    work: (makesWay?: MakesWay) => T | Promise<T>,
    [makesWay, ...instead]: readonly (MakesWay | undefined)[] = [],
  ): Promise<T> {
    const isLast = instead.length === 0;
    let result: T;
    try {
      result = await work(makesWay);
    } catch (error) {
      if (!mayBeFull(error)) throw error;
      if (this.#spare?.releaseReserve() === true) this.#spareIsOut = true;
      else if (!this.#spareIsOut) {
        if (isLast || this.#spare === undefined || !isDiskFull(error)) throw error;
        return await this.inReserve(work, instead);
      }
      // With the reserve there may be room to move the log into the file, which ends its growth.
      await this.#unlessFull(() => this.#store.checkpoint());
      try {
        result = await work(makesWay);
      } catch (again) {
        if (isDiskFull(again) && !isLast) return await this.inReserve(work, instead);
        // The next attempt finds a shorter log, and the reserve.
        await this.#giveBack();
        throw again;
      }
    }
    if (this.#spareIsOut) await this.#giveBack();
    this.#shortenedAtMs = -Infinity;
    return result;
  }

  /**
   * Shrinks the file, so that there is room for the log and the reserve again. Each step writes into
   * the log, which is moved into the file before, where there is room for that. Where there is not,
   * the steps make some: what is beyond the file's new end, a checkpoint need not write.
   */
  async #giveBack(): Promise<void> {
    let moved = await this.#unlessFull(() => this.#store.checkpoint());
    // Behind a reader a step only makes the log longer.
    for (let step = 1; step <= VACUUM_STEPS && moved !== false; step++) {
      const space = await this.#unlessFull(() => this.#store.vacuumStep(VACUUM_PAGES));
      if (space === undefined || space.freePages === 0) break;
      if (step % STEPS_BETWEEN_CHECKPOINTS !== 0) continue;
      moved = await this.#unlessFull(() => this.#store.checkpoint());
      await new Promise<void>((resolve) => this.#clock.defer(resolve));
    }
    await this.#unlessFull(() => this.#store.checkpoint());
    this.#restore();
  }

  /** Where there is no room even for this: after the next removal. */
  async #unlessFull<T>(work: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof QueueFileError) return undefined;
      throw error;
    }
  }

  #restore(): void {
    this.#restoredAtMs = this.#clock.nowMs();
    this.#spareIsOut = this.#spare?.restoreReserve() === false;
  }

  space(): FileSpace | Promise<FileSpace> {
    return this.#store.space();
  }

  vacuumStep(pages: number): FileSpace | Promise<FileSpace> {
    return this.#store.vacuumStep(pages);
  }

  checkpoint(): boolean | Promise<boolean> {
    return this.#store.checkpoint();
  }

  /** Looks at the files for the last time. */
  close(): void | Promise<void> {
    this.misplaced();
    this.#isClosed = true;
    return this.#store.close();
  }
}
