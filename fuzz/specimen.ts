/**
 * Queues whose packets are known, for the fuzzer to damage.
 *
 * @module
 */

import { OutboundQueue, sendingSideOf } from "../src/queue/queue.ts";
import type { SeededRandom } from "../simulation/random.ts";

/** A queue's file as it was before anything was damaged. */
export interface Specimen {
  /** Every packet that was ever stored in it, by id; each is a line unlike any other. */
  readonly stored: ReadonlyMap<number, string>;
  /** Where its pages are. */
  readonly layout: "in the file" | "half in the log" | "in the log";
}

/** The files that make a queue; SQLite makes the third, `-shm`, anew from these. */
export const QUEUE_FILES = ["", "-wal"] as const;

/** More than a page, so that a batch has overflow pages. */
const LARGE_BYTES = 12_000;
const LONG_TTL_MS = 1_000_000_000;

/**
 * Makes a queue: batches small and large, some of them with a time to live, dead letters,
 * packets that were sent, and holes where others were removed.
 *
 * @param path Where; nothing is there yet.
 */
export async function makeSpecimen(path: string, random: SeededRandom): Promise<Specimen> {
  const layout = random.pick(["in the file", "half in the log", "in the log"] as const);
  const work = `${path}.work`;
  const stored = new Map<number, string>();
  const tag = `${random.int(1_000_000, 9_999_999)}`;
  const steps = random.int(1, 14);
  let queue = await open(work);
  try {
    for (let step = 0; step < steps; step++) {
      if (layout === "half in the log" && step === Math.floor(steps / 2)) {
        await queue.close();
        queue = await open(work);
      }
      await storeBatch(queue, stored, tag, random);
      if (random.chance(0.5)) await live(queue, random);
    }
    if (layout === "in the file") await queue.close();
    copyQueue(work, path);
  } finally {
    await queue.close();
  }
  for (const end of [...QUEUE_FILES, ".lock"]) removeIfThere(work + end);
  return { stored, layout };
}

function open(path: string): Promise<OutboundQueue> {
  return OutboundQueue.open(path, { durability: "process-crash" });
}

async function storeBatch(
  queue: OutboundQueue,
  stored: Map<number, string>,
  tag: string,
  random: SeededRandom,
): Promise<void> {
  const first = queue.lastId + 1;
  const count = random.pick([1, 1, 2, 8, 60]);
  const texts = Array.from({ length: count }, (_, i) => {
    const bytes = random.chance(0.1) ? random.int(1000, LARGE_BYTES) : random.int(20, 200);
    return packetText(`${tag}.${first + i}`, bytes);
  });
  const ttlMs = random.pick([Infinity, Infinity, LONG_TTL_MS, 1]);
  const encoder = new TextEncoder();
  const ids = await queue.enqueueMany(texts.map((text) => encoder.encode(text)), { ttlMs });
  for (const [i, text] of texts.entries()) stored.set(ids.firstId + i, text);
}

/** The name again and again, so that no two pieces of 20 bytes are alike in two packets. */
function packetText(name: string, bytes: number): string {
  return `${`${name} `.repeat(Math.ceil(bytes / (name.length + 1))).slice(0, bytes)}\n`;
}

/** What happens to a queue in use. */
async function live(queue: OutboundQueue, random: SeededRandom): Promise<void> {
  const id = random.int(queue.removedThroughId + 1, queue.lastId);
  switch (random.pick(["sent", "removed", "given up", "taken out", "put back"] as const)) {
    case "sent":
      sendingSideOf(queue).rememberSent(id);
      return;
    case "removed":
      // Not all: an empty queue shows little.
      if (random.chance(0.5)) await sendingSideOf(queue).removeThrough(id);
      return;
    case "given up": {
      const attempts = random.int(1, 5);
      if (attempts < 4) await sendingSideOf(queue).giveUp(id, attempts);
      else await sendingSideOf(queue).refuse(id, '"ERR not this one"');
      return;
    }
    case "taken out":
      await queue.removePackets({ firstId: id, lastId: id + random.int(0, 5) });
      return;
    case "put back":
      // Under a new id, which nobody is told; their text is known already.
      await queue.requeue({ firstId: 1, lastId: id });
  }
}

/** Copies a queue and its log, as they are at this moment. */
export function copyQueue(from: string, to: string): void {
  for (const end of QUEUE_FILES) {
    try {
      Deno.copyFileSync(from + end, to + end);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** Removes a file, where there is one. */
export function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
