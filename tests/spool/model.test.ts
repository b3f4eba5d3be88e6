/** A queue in a spool against arrays, while others of the same spool are busy, and are checked as well. */
import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import type { QueueOptions, SyncIn } from "../../src/queue/options.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { spoolInspector, spoolQueue } from "../../src/spool/spool.ts";
import { FaultDriver } from "../queue/helpers.ts";
import { checkAgainstArrays } from "../queue/model.ts";
import { TESTED } from "../queue/threads.ts";
import { bytes, text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";

/** They lie beside the tested one on both sides: it is made between them. */
const NEIGHBOURS = ["below", "above"] as const;
const ALL = { firstId: 0, lastId: Number.MAX_SAFE_INTEGER };
/** What a model's step fails with, in a spool: its parts of a transaction have words of their own. */
const ALSO: Readonly<Record<string, string>> = {
  "BEGIN IMMEDIATE": "SAVEPOINT",
  "COMMIT": "RELEASE",
};

/**
 * A queue that stores, removes and makes dead letters all the time. It knows what was stored, and
 * what is gone.
 */
class Neighbour {
  readonly #queue: OutboundQueue;
  readonly #name: string;
  /** What is in the queue, by id. */
  readonly #packets = new Map<number, string>();
  readonly #letters = new Map<number, string>();
  #working: Promise<void> | undefined;
  #isEnding = false;
  #stored = 0;
  #lastId = 0;
  /** Rounds in which everything worked. */
  whole = 0;

  constructor(name: string, queue: OutboundQueue) {
    this.#name = name;
    this.#queue = queue;
  }

  begin(): void {
    this.#isEnding = false;
    this.#working = this.#work();
  }

  async #work(): Promise<void> {
    while (!this.#isEnding) {
      await this.#round();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async #round(): Promise<void> {
    const sending = sendingSideOf(this.#queue);
    const stores = Array.from({ length: 4 }, () => {
      const words = `${this.#name} ${++this.#stored}`;
      return this.#queue.enqueue(bytes(words)).then((id) => {
        assert(id > this.#lastId, `${this.#name}: id ${id} behind ${this.#lastId}`);
        this.#lastId = id;
        this.#packets.set(id, words);
        return true;
      }).catch(refused);
    });
    const [first, second, third] = [...this.#packets.keys()];
    const removal = first === undefined || this.#packets.size < 3 ? undefined : await sending
      .removeThrough(first).then(() => this.#packets.delete(first)).catch(refused);
    const results = await Promise.all(stores);
    let grave: boolean | undefined;
    if (third !== undefined) {
      grave = await sending.giveUp(third, 1).then(() => {
        this.#letters.set(third, this.#packets.get(third) ?? assert.fail());
        return this.#packets.delete(third);
      }).catch(refused);
    }
    if (second !== undefined && this.#stored % 5 === 0) {
      await this.#queue.removePackets({ firstId: second, lastId: second })
        .then(() => this.#packets.delete(second)).catch(refused);
    }
    if (this.#letters.size > 5) {
      await this.#queue.removeDeadLetters(ALL).then(() => this.#letters.clear()).catch(refused);
    }
    if (removal !== false && grave !== false && results.every(Boolean)) this.whole++;
  }

  /** Ends, and compares what is there with what should be. */
  async pause(): Promise<void> {
    this.#isEnding = true;
    await this.#working;
    const got = (await this.#queue.read(0, 1e9)).map(({ id, payload }) => [id, text(payload)]);
    assert.deepEqual(got, [...this.#packets], this.#name);
    const letters = (await this.#queue.deadLetters(0, 1e9))
      .map(({ id, payload }) => [id, text(payload)]);
    assert.deepEqual(letters, [...this.#letters], this.#name);
    const { packets, deadPackets, lastId } = this.#queue.stats();
    assert.deepEqual([packets, deadPackets], [got.length, letters.length], this.#name);
    // What is not known to be stored may be: of a COMMIT that has failed nothing is, here.
    assert.equal(lastId, this.#lastId, this.#name);
  }

  close(): Promise<void> {
    return this.#queue.close();
  }
}

function refused(error: unknown): false {
  assert(error instanceof QueueFileError, String(error));
  return false;
}

for (const syncIn of ["loop", "threads"] satisfies SyncIn[]) {
  Deno.test(`in a spool, any sequence of operations agrees with an array (syncIn ${syncIn})`, async () => {
    let failed = 0, whole = 0, runs = 0;
    await checkAgainstArrays(async () => {
      const dir = new TempDir();
      const driver = new FaultDriver();
      const neighbours: Neighbour[] = [];
      const options: QueueOptions = { driver, syncIn };
      let clock: QueueOptions["clock"];
      driver.rollsBack = runs++ % 2 === 1;
      return await Promise.resolve({
        faults: {
          fail(start, code, times) {
            let left = times;
            const also = ALSO[start] ?? start;
            driver.fault = (sql) => {
              if (left === 0 || !(sql.startsWith(start) || sql.startsWith(also))) return undefined;
              left--;
              failed++;
              return FaultDriver.error(code);
            };
          },
          heal: () => driver.heal(),
        },
        async open(given) {
          clock ??= given.clock;
          const shared: QueueOptions = clock === undefined ? options : { ...options, clock };
          if (neighbours.length === 0) {
            // In the order of their numbers: the tested one is the second.
            for (const name of [NEIGHBOURS[0], TESTED, NEIGHBOURS[1]]) {
              const queue = await spoolQueue(dir.queue, name, shared);
              if (name === TESTED) await queue.close();
              else neighbours.push(new Neighbour(name, queue));
            }
            for (const neighbour of neighbours) neighbour.begin();
          }
          return await spoolQueue(dir.queue, TESTED, { ...shared, ...given });
        },
        async [Symbol.asyncDispose]() {
          for (const neighbour of neighbours) {
            await neighbour.pause();
            await neighbour.close();
            whole += neighbour.whole;
          }
          for (const name of [...NEIGHBOURS, TESTED]) {
            using inspector = await spoolInspector(dir.queue, name);
            assert.deepEqual(await inspector.check(), [], name);
          }
          dir[Symbol.dispose]();
        },
      });
    }, syncIn === "threads" ? 30 : 60);
    assert(failed > 0, "nothing has failed");
    assert(whole > 0, "nothing has worked");
  });
}
