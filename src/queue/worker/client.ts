/**
 * A store whose file is opened, written and synced by a Worker: however long the
 * disk takes, the event loop stays free.
 *
 * @module
 */

import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { ClosedError, messageOf } from "../../base/errors.ts";
import { queueFileError } from "../sqlite/file_error.ts";
import { BatchPacker } from "../store/batches.ts";
import type {
  CommitRequest,
  CommitResult,
  EditRequest,
  EditResult,
  FileSpace,
  FileStore,
  ReadResult,
  StoreState,
} from "../store/contract.ts";
import type { DeadLetter, Due, Durability } from "../store/types.ts";
import {
  listen,
  packCommit,
  type PackedCommitResult,
  type StoreAnswer,
  type StoreCall,
  type StoreMethod,
  type StoreWorkerData,
  unpackError,
} from "./messages.ts";

/** A larger buffer is not kept for the next commit. */
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

/** Waits for one answer. */
interface Pending {
  readonly take: (answer: StoreAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** One Worker's `data_version` says nothing to the next one's. */
const DATA_VERSIONS = 2 ** 32;

/**
 * A `SqliteStore` in a Worker. Answers come in the order of the calls, and each
 * promise is settled before the next one: what the file said later is also heard
 * later.
 *
 * When the Worker dies, what was under way is rejected; where nothing was, the next
 * call is, so that somebody hears of it. The call after that starts another Worker.
 */
export class WorkerStoreClient implements FileStore {
  /** What the Worker runs. A test puts another here, which fails on demand. */
  static module: URL = new URL("./entry.ts", import.meta.url);

  readonly path: string;
  readonly #durability: Durability;
  #thread: StoreThread;
  /** Workers before this one. */
  #deaths = 0;

  private constructor(path: string, durability: Durability, thread: StoreThread) {
    this.path = path;
    this.#durability = durability;
    this.#thread = thread;
  }

  /**
   * Starts the Worker, which opens the queue's file or makes one.
   *
   * @param path The queue's file.
   * @param durability What a commit survives.
   * @throws {QueueFileError}
   * @throws {Deno.errors.NotCapable} With the flags to add.
   */
  static async open(path: string, durability: Durability): Promise<WorkerStoreClient> {
    await checkMayLoad(WorkerStoreClient.module);
    const thread = StoreThread.start(path, durability);
    try {
      return new WorkerStoreClient(await thread.opened, durability, thread);
    } catch (error) {
      await thread.end();
      throw error;
    }
  }

  /** See {@linkcode FileStore.reopenings}: each Worker opens it once. */
  get reopenings(): number | undefined {
    return this.#thread.isOpen ? this.#deaths : undefined;
  }

  /** The Worker, or another one where it has died and somebody was told. */
  #live(): StoreThread {
    if (this.#thread.mayBeReplaced) {
      this.#deaths++;
      const thread = StoreThread.start(this.path, this.#durability);
      this.#thread = thread;
      // Calls wait behind this answer; without it they would wait for ever.
      thread.opened.catch((error) => thread.fail(error));
    }
    return this.#thread;
  }

  /** As `SqliteStore.commit`; the packets are copied before this returns. */
  commit(request: CommitRequest): Promise<CommitResult> {
    const thread = this.#live();
    const packed = packCommit(request, (bytes) => thread.borrow(bytes));
    return thread.call(
      { method: "commit", request: packed },
      [packed.buffer],
      // Here, and not behind an await: a later answer must not overtake it.
      ({ value }) => withBatches(request, value),
    );
  }

  /** As `SqliteStore.edit`. */
  edit(request: EditRequest): Promise<EditResult> {
    return this.#forward("edit", request);
  }

  /** As `SqliteStore.due`. */
  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Promise<Due> {
    return this.#forward("due", afterId, nowMs, order);
  }

  /** As `SqliteStore.deadLetters`. */
  deadLetters(afterId: number, maxBytes: number): Promise<DeadLetter[]> {
    return this.#forward("deadLetters", afterId, maxBytes);
  }

  /** As `SqliteStore.read`. */
  read(afterId: number, maxBytes: number): Promise<ReadResult> {
    return this.#forward("read", afterId, maxBytes);
  }

  /** As `SqliteStore.state`. */
  state(): Promise<StoreState> {
    return this.#forward("state");
  }

  /** As `SqliteStore.edgeId`. */
  edgeId(): Promise<string | undefined> {
    return this.#forward("edgeId");
  }

  /** As `SqliteStore.setEdgeId`. */
  setEdgeId(id: string): Promise<void> {
    return this.#forward("setEdgeId", id);
  }

  /** As `SqliteStore.enqueuedAtMs`. */
  enqueuedAtMs(id: number): Promise<number | undefined> {
    return this.#forward("enqueuedAtMs", id);
  }

  /** As `SqliteStore.dataVersion`. */
  async dataVersion(): Promise<number> {
    const thread = this.#live();
    const before = this.#deaths * DATA_VERSIONS;
    return before + await thread.call({ method: "dataVersion", args: [] }, [], valueOf);
  }

  /** As `SqliteStore.space`. */
  space(): Promise<FileSpace> {
    return this.#forward("space");
  }

  /** As `SqliteStore.vacuumStep`. */
  vacuumStep(pages: number): Promise<FileSpace> {
    return this.#forward("vacuumStep", pages);
  }

  /** As `SqliteStore.checkpoint`. */
  checkpoint(): Promise<void> {
    return this.#forward("checkpoint");
  }

  /** Answers what was called before, closes the file and ends the Worker. */
  async close(): Promise<void> {
    try {
      if (this.#thread.isAlive) await this.#thread.call({ method: "close", args: [] }, [], valueOf);
    } finally {
      await this.#thread.end();
    }
  }

  #forward<M extends Exclude<StoreMethod, "commit">>(
    method: M,
    ...args: Parameters<FileStore[M]>
  ): Promise<Awaited<ReturnType<FileStore[M]>>> {
    return this.#live().call({ method, args }, [], valueOf);
  }
}

/**
 * Never called. What a Worker runs is no import of anybody; by this one `deno cache`,
 * `install`, `vendor` and `compile` know of it, so that it is there without a network.
 */
export const importEntry = (): Promise<unknown> => import("./entry.ts");

/** What an answer says. */
function valueOf({ value }: MessageEvent["data"]): MessageEvent["data"] {
  return value;
}

/** The Worker and the channel to it. */
class StoreThread {
  readonly #path: string;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  /** In the order of the calls. */
  #pending: Pending[] = [];
  /** Why there will be no more answers. */
  #over: Error | undefined;
  /** Whether it was closed, or a call was rejected because it is over. */
  #isClosed = false;
  #isTold = false;
  /** Whether it has opened the file. */
  #hasOpened = false;
  /** Was lent with one commit, for the next. */
  #buffer = new ArrayBuffer(0);

  /** The file's real path, which is the first thing that it says. */
  readonly opened: Promise<string>;

  /** Starts a Worker, which opens the file. */
  static start(path: string, durability: Durability): StoreThread {
    const { port1, port2 } = new MessageChannel();
    const workerData: StoreWorkerData = { port: port2, path, durability };
    const entry = entryOf(WorkerStoreClient.module);
    const worker = new Worker(entry, { workerData, transferList: [port2] });
    return new StoreThread(path, worker, port1);
  }

  private constructor(path: string, worker: Worker, port: MessagePort) {
    this.#path = path;
    this.#worker = worker;
    this.#port = port;
    worker.on("error", (error) => this.#die(error));
    worker.on("exit", (code) => this.#die(new Error(`The Worker ended with code ${code}`)));
    listen(port, (answer) => this.#take(answer));
    // A process that has nothing else to do may end; a call under way keeps it. It
    // is the Worker that counts: a port whose other end has died keeps nothing.
    worker.unref();
    port.unref();
    this.opened = this.#expect(({ value }) => {
      this.#hasOpened = true;
      return String(value);
    });
  }

  /** Whether it can still answer. */
  get isAlive(): boolean {
    return this.#over === undefined;
  }

  /** Whether it has the file open. */
  get isOpen(): boolean {
    return this.#hasOpened && this.isAlive;
  }

  /** Whether it has died, and somebody has heard of it. */
  get mayBeReplaced(): boolean {
    return this.#over !== undefined && this.#isTold && !this.#isClosed;
  }

  /** A buffer of at least so many bytes, to be given away with a call. */
  borrow(bytes: number): ArrayBuffer {
    const kept = this.#buffer;
    this.#buffer = new ArrayBuffer(0);
    return kept.byteLength >= bytes ? kept : new ArrayBuffer(bytes);
  }

  /** Sends a call. Its answer settles the promise. */
  call<T>(
    call: StoreCall,
    transfer: ArrayBuffer[],
    convert: (answer: MessageEvent["data"]) => T,
  ): Promise<T> {
    if (this.#over !== undefined) {
      this.#isTold = true;
      return Promise.reject(this.#over);
    }
    this.#port.postMessage(call, transfer);
    return this.#expect(convert);
  }

  /** The next answer that nobody else expects. */
  #expect<T>(convert: (answer: MessageEvent["data"]) => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    if (this.#pending.length === 0) this.#worker.ref();
    this.#pending.push({ take: (answer) => resolve(convert(answer)), reject });
    return promise;
  }

  /** Ends the Worker, whatever it is doing. */
  async end(): Promise<void> {
    this.#isClosed = true;
    this.#stop(new ClosedError("The queue is closed."));
    this.#worker.ref();
    await this.#worker.terminate();
  }

  /** It cannot open the file: nothing will be answered. */
  fail(error: Error): void {
    this.#isTold = true;
    this.#stop(error);
    void this.#worker.terminate();
  }

  #take(answer: StoreAnswer): void {
    if (answer.buffer !== undefined && answer.buffer.byteLength <= MAX_KEPT_BYTES) {
      this.#buffer = answer.buffer;
    }
    const pending = this.#pending.shift();
    if (this.#pending.length === 0) this.#worker.unref();
    if ("error" in answer) pending?.reject(unpackError(answer.error));
    else pending?.take(answer);
  }

  #die(cause: unknown): void {
    const words = messageOf(cause);
    this.#stop(queueFileError("io", this.#path, `its Worker has ended (${words})`, {
      cause,
      outcome: "unknown",
      advice: "What was under way may be stored or not. Another Worker is started.",
    }));
  }

  #stop(reason: Error): void {
    if (this.#over !== undefined) return;
    this.#over = reason;
    this.#port.close();
    this.#isTold ||= this.#pending.length > 0;
    for (const { reject } of this.#pending.splice(0)) reject(reason);
  }
}

/** The batches that the Worker has stored: it numbers packets as they were handed over. */
function withBatches({ units }: CommitRequest, result: PackedCommitResult): CommitResult {
  const { state, refused } = result;
  let packets = 0;
  for (let i = 0; i < units.length; i++) if (!refused.has(i)) packets += units[i]?.packets ?? 0;
  const packer = new BatchPacker(state.lastId + 1 - packets);
  for (let i = 0; i < units.length; i++) {
    const unit = units[i];
    if (unit !== undefined && !refused.has(i)) packer.add(unit);
  }
  return { ...result, batches: packer.finish() };
}

/** `Worker` takes local files only; a module from elsewhere is imported by one line of code. */
function entryOf(module: URL): URL {
  if (module.protocol === "file:") return module;
  const code = `import ${JSON.stringify(module.href)};`;
  return new URL(`data:text/javascript,${encodeURIComponent(code)}`);
}

/**
 * A Worker's local modules need a read grant, unlike the program's own.
 *
 * @throws {Deno.errors.NotCapable} With the flag to add.
 */
async function checkMayLoad(module: URL): Promise<void> {
  // From elsewhere it is --allow-import, and jsr.io is allowed from the start;
  // what is compiled in needs no grant.
  if (module.protocol !== "file:" || Deno.build.standalone) return;
  const path = new URL("../..", module);
  const { state } = await Deno.permissions.request({ name: "read", path });
  if (state !== "granted") {
    const directory = decodeURIComponent(path.pathname).replace(/\/$/, "");
    throw new Deno.errors.NotCapable(
      `commitIn "worker" needs --allow-read=${directory}: ` +
        'a Worker\'s code is read from there. Or use commitIn "main".',
    );
  }
}
