import assert from "node:assert/strict";
import { LookUpTurns } from "../../src/kernel/look_up.ts";

/** Asks for turns, and notes in which order they come. */
class Asking {
  readonly turns = new LookUpTurns();
  readonly begun: string[] = [];
  readonly over = new Map<string, (found: boolean) => void>();
  readonly #never = new AbortController().signal;

  async ask(hostname: string, signal: AbortSignal = this.#never): Promise<void> {
    const over = await this.turns.next(hostname, signal);
    this.begun.push(hostname);
    this.over.set(hostname, over);
  }

  /** What was asked for and has no turn yet is not waited for. */
  async askAll(...hostnames: string[]): Promise<void> {
    for (const hostname of hostnames) void this.ask(hostname);
    await settled();
  }

  async end(hostname: string, found: boolean): Promise<void> {
    this.over.get(hostname)?.(found);
    this.over.get(hostname)?.(found); // Twice is once.
    await settled();
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function names(word: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${word}${index}`);
}

Deno.test("look-ups: twelve at a time, the others in their order", async () => {
  const asking = new Asking();
  await asking.askAll(...names("a", 15));
  assert.deepEqual(asking.begun, names("a", 12));
  await asking.end("a3", true);
  await asking.end("a4", true);
  assert.deepEqual(asking.begun, names("a", 14));
});

Deno.test("look-ups: names that came to nothing leave room for others, and let them pass", async () => {
  const asking = new Asking();
  for (const name of names("dead", 12)) {
    await asking.askAll(name);
    await asking.end(name, false);
  }
  asking.begun.length = 0;
  await asking.askAll(...names("dead", 12), ...names("well", 6));
  assert.deepEqual(asking.begun, [...names("dead", 8), ...names("well", 4)]);
  await asking.end("dead0", false);
  assert.equal(asking.begun.at(-1), "well4");
  await asking.end("dead1", false);
  await asking.end("well0", true);
  assert.deepEqual(asking.begun.slice(-2), ["well5", "well4"].toReversed());
  assert.ok(!asking.begun.includes("dead8"));
  await asking.end("dead2", false);
  await asking.end("dead3", true);
  await asking.end("dead4", false);
  await asking.end("dead5", false);
  assert.ok(asking.begun.includes("dead8"));
  // One that was found is no doubtful one any more.
  await asking.askAll("dead3");
  assert.ok(asking.begun.includes("dead3"));
});

Deno.test("look-ups: a name whose last look-up does not end is doubtful, one not waited for is forgotten", async () => {
  const asking = new Asking();
  await asking.askAll("hangs", "hangs", "hangs", "hangs", "hangs", "hangs", "hangs", "hangs");
  await asking.askAll("hangs");
  assert.equal(asking.begun.length, 8);
  const controller = new AbortController();
  const given = assert.rejects(asking.ask("hangs", controller.signal), /given up/);
  controller.abort(new Error("given up"));
  await given;
  await assert.rejects(asking.ask("other", AbortSignal.abort(new Error("before"))), /before/);
  await asking.askAll("well");
  assert.equal(asking.begun.at(-1), "well");
});
