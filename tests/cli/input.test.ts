import assert from "node:assert/strict";
import { BackgroundWriter } from "../../src/base/background_writer.ts";
import { CommandError, explain } from "../../src/cli/terminal/exit_code.ts";
import { LogConsole } from "../../src/cli/terminal/output.ts";
import { ClosedError, QueueFileError, type QueueFileReason } from "../../src/base/errors.ts";
import type { Clock } from "../../src/base/ports.ts";
import { FramingError } from "../../src/framing/errors.ts";
import { PacketSplitter } from "../../src/framing/splitter.ts";
import { InputPump, type InputPumpOptions } from "../../src/framing/input_pump.ts";

/** Time that passes when somebody waits for it. */
class TestClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<{ atMs: number; callback: () => void }>();

  nowMs(): number {
    return this.#nowMs;
  }
  wallMs(): number {
    return this.#nowMs;
  }
  defer(callback: () => void): void {
    callback();
  }
  setTimer(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Moves on to the next timer, which may be late, once whoever sets it has had the time to. */
  async advance(lateMs = 0): Promise<void> {
    await settle();
    const [next] = [...this.#timers].sort((a, b) => a.atMs - b.atMs);
    assert(next !== undefined, "nobody waits for anything");
    this.#nowMs = next.atMs + lateMs;
    this.#timers.delete(next);
    next.callback();
    await settle();
  }

  get waiting(): number {
    return this.#timers.size;
  }
}

/** Lets everything happen that needs no timer. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function sourceOf(...chunks: (string | Promise<string>)[]): InputPumpOptions["source"] {
  return {
    async read(buffer) {
      const chunk = await chunks.shift();
      if (chunk === undefined) return null;
      const taken = chunk.slice(0, buffer.length);
      if (taken.length < chunk.length) chunks.unshift(chunk.slice(buffer.length));
      return new TextEncoder().encodeInto(taken, buffer).written;
    },
  };
}

function fileError(reason: QueueFileReason): QueueFileError {
  return new QueueFileError(reason, "outbox.db", `Queue outbox.db: ${reason}.`);
}

function setUp(
  source: InputPumpOptions["source"],
  fault: (attempt: number) => Error | Promise<void> | undefined = () => undefined,
  limits: Partial<InputPumpOptions> = {},
) {
  const stored: string[][] = [];
  const troubles: string[] = [];
  const clock = new TestClock();
  let attempts = 0;
  const pump = new InputPump({
    source,
    splitter: new PacketSplitter({ input: "lines", maxPacketBytes: 100 }),
    store: async (packets) => {
      const outcome = fault(++attempts);
      if (outcome instanceof Error) throw outcome;
      await outcome;
      stored.push(packets.map((packet) => new TextDecoder().decode(packet)));
    },
    maxBatchPackets: 1000,
    maxBatchBytes: 1000,
    clock,
    onTrouble: (words) => troubles.push(words),
    onDoubt: (words) => troubles.push(words),
    ...limits,
  });
  return { pump, stored, troubles, clock };
}

Deno.test("what one read brings is one transaction", async () => {
  const { pump, stored, clock } = setUp(sourceOf("a\nb\nc", "\nd"));
  await pump.run();
  assert.deepEqual(stored, [["a\n", "b\n"], ["c\n"], ["d\n"]]);
  assert.deepEqual([pump.storedPackets, pump.unstoredPackets, pump.unfinishedBytes], [4, 0, 0]);
  assert.equal(clock.waiting, 0, "a timer was left behind");
});

Deno.test("a transaction has its bounds; a large packet goes alone", async () => {
  const lines = "a\nb\nc\nd\ne\n";
  const few = setUp(sourceOf(lines), undefined, { maxBatchPackets: 2 });
  await few.pump.run();
  assert.deepEqual(few.stored.map((batch) => batch.length), [2, 2, 1]);
  const small = setUp(sourceOf("a\nlonger than four\nb\nc\n"), undefined, { maxBatchBytes: 4 });
  await small.pump.run();
  assert.deepEqual(small.stored, [["a\n"], ["longer than four\n"], ["b\n", "c\n"]]);
});

Deno.test("nothing is read before the packets of the read before are on disk", async () => {
  const gate = Promise.withResolvers<void>();
  let reads = 0;
  const { pump } = setUp({
    read(buffer) {
      buffer[0] = 10;
      return Promise.resolve(++reads > 3 ? null : 1);
    },
  }, (attempt) => attempt === 2 ? gate.promise : undefined);
  const running = pump.run();
  await settle();
  assert.deepEqual([reads, pump.storedPackets, pump.unstoredPackets], [2, 1, 1]);
  gate.resolve();
  await running;
  assert.deepEqual([reads, pump.storedPackets], [4, 3]);
});

Deno.test("a full disk is waited out, and said once", async () => {
  const { pump, stored, troubles, clock } = setUp(
    sourceOf("a\n", "b\n"),
    (attempt) => attempt <= 3 ? fileError("disk-full") : undefined,
  );
  const running = pump.run();
  for (let i = 0; i < 3; i++) {
    await clock.advance();
    assert.equal(pump.unstoredPackets, i < 2 ? 1 : 0);
  }
  await running;
  assert.deepEqual(stored, [["a\n"], ["b\n"]]);
  assert.deepEqual(troubles, [
    "Queue outbox.db: disk-full. Trying again every second; the producer has to wait.",
    "the queue takes packets again",
  ]);
});

Deno.test("what comes once nothing can be stored any more is left to whoever reads next", async () => {
  let isOpen = true;
  let reads = 0;
  let readable = Promise.withResolvers<void>();
  const { pump, stored } = setUp(
    {
      untilReadable: () => readable.promise,
      read: (buffer) => {
        reads++;
        buffer.set([97, 10]);
        readable = Promise.withResolvers();
        return Promise.resolve(2);
      },
    },
    undefined,
    { isOpen: () => isOpen },
  );
  const running = pump.run();
  await settle();
  assert.equal(reads, 0);
  readable.resolve();
  await settle();
  assert.deepEqual([reads, stored], [1, [["a\n"]]]);
  pump.stop();
  isOpen = false;
  readable.resolve();
  await running;
  assert.deepEqual([reads, pump.unstoredPackets], [1, 0]);
});

Deno.test("a read that does not wait is waited for before a stop is over", async () => {
  const reading = Promise.withResolvers<number>();
  const { pump, stored } = setUp({
    untilReadable: () => Promise.resolve(),
    read: (buffer) => {
      buffer.set([97, 10]);
      return reading.promise;
    },
  });
  const running = pump.run();
  await settle();
  pump.stop();
  let isStored = false;
  const ended = pump.stored().then(() => isStored = true);
  await settle();
  assert.equal(isStored, false);
  reading.resolve(2);
  await ended;
  assert.deepEqual(stored, [["a\n"]]);
  await running;
});

Deno.test("a lasting fault ends the input, and what was not stored is counted", async () => {
  const { pump, stored } = setUp(
    sourceOf("a\n", "b\nc\n"),
    (attempt) => attempt === 2 ? fileError("corrupt") : undefined,
  );
  await assert.rejects(pump.run(), { name: "QueueFileError", reason: "corrupt" });
  assert.deepEqual(stored, [["a\n"]]);
  assert.equal(pump.unstoredPackets, 2);
});

Deno.test("packets before a fault of the framing are stored first", async () => {
  const { pump, stored } = setUp(sourceOf(`a\n${"x".repeat(200)}`));
  await assert.rejects(pump.run(), FramingError);
  assert.deepEqual(stored, [["a\n"]]);
});

Deno.test("a wait for the queue is said after two seconds", async () => {
  const gate = Promise.withResolvers<void>();
  const { pump, troubles, clock } = setUp(sourceOf("a\n"), () => gate.promise);
  const running = pump.run();
  for (let half = 0; half < 2; half++) await clock.advance();
  assert.equal(clock.nowMs(), 2000);
  assert.deepEqual(troubles, [
    "the queue is full, or its disk or database is slow; the producer has to wait",
  ]);
  gate.resolve();
  await running;
});

Deno.test("a process that stands still while it stores does not wait for the queue", async () => {
  const gate = Promise.withResolvers<void>();
  const { pump, troubles, clock } = setUp(sourceOf("a\n"), () => gate.promise);
  const running = pump.run();
  await clock.advance(60_000);
  gate.resolve();
  await running;
  assert.deepEqual(troubles, []);
});

Deno.test("after stop, a read under way is still stored and no other is begun", async () => {
  const late = Promise.withResolvers<string>();
  const { pump, stored } = setUp(sourceOf("a\n", late.promise, "never read\n"));
  const running = pump.run();
  await settle();
  pump.stop();
  await pump.stored();
  late.resolve("b\nc\n");
  await running;
  assert.deepEqual(stored, [["a\n"], ["b\n", "c\n"]]);
});

Deno.test("after stop, a packet that was begun is made whole, and not a byte more is read", async () => {
  const late = Promise.withResolvers<string>();
  const left: string[] = [];
  const source = sourceOf("a\nbeg", late.promise, "and ended\nnot taken\n");
  const { pump, stored } = setUp({
    async read(buffer) {
      const length = await source.read(buffer);
      left.push(new TextDecoder().decode(buffer.subarray(0, length ?? 0)));
      return length;
    },
  });
  const running = pump.run();
  await settle();
  pump.stop();
  const whole = pump.whole();
  assert.equal(pump.unfinishedBytes, 3);
  late.resolve("un, ");
  await Promise.all([running, whole]);
  assert.deepEqual(stored, [["a\n"], ["begun, and ended\n"]]);
  assert.equal(left.join(""), "a\nbegun, and ended\n");
});

Deno.test("after stop, what is left of a packet that is too large is not left to who reads on", async (t) => {
  for (const oversize of ["skip", "cut"] as const) {
    await t.step(oversize, async () => {
      const late = Promise.withResolvers<string>();
      const left: string[] = [];
      const source = sourceOf("a\nfar too", late.promise, "large\nnot taken\n");
      const { pump, stored } = setUp(
        {
          async read(buffer) {
            const length = await source.read(buffer);
            left.push(new TextDecoder().decode(buffer.subarray(0, length ?? 0)));
            return length;
          },
        },
        undefined,
        { splitter: new PacketSplitter({ input: "lines", maxPacketBytes: 5, oversize }) },
      );
      const running = pump.run();
      await settle();
      pump.stop();
      const whole = pump.whole();
      late.resolve(" ");
      await Promise.all([running, whole]);
      assert.deepEqual(stored.flat(), oversize === "cut" ? ["a\n", "far \n"] : ["a\n"]);
      assert.equal(left.join(""), "a\nfar too large\n");
      assert.equal(pump.unfinishedBytes, 0);
    });
  }
});

Deno.test("after stop, an input that ends inside a packet is not waited for any longer", async () => {
  const late = Promise.withResolvers<string>();
  const { pump, stored } = setUp(sourceOf("a\nbeg", late.promise), undefined, {
    endCompletes: false,
  });
  const running = pump.run();
  await settle();
  pump.stop();
  late.resolve("un");
  await Promise.all([running, pump.whole()]);
  assert.deepEqual(stored, [["a\n"]]);
  assert.equal(pump.unfinishedBytes, 5);
});

Deno.test("a wait for room can be given up, and so can one for the disk", async () => {
  const waiting = setUp({ read: (buffer) => Promise.resolve(buffer.fill(10).length) }, undefined, {
    store: (_, signal) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  });
  const running = assert.rejects(waiting.pump.run(), ClosedError);
  await settle();
  waiting.pump.giveUp();
  await Promise.all([running, waiting.pump.stored()]);
  assert.equal(waiting.clock.waiting, 0);

  const full = setUp(sourceOf("a\n"), () => fileError("disk-full"));
  const fullRunning = assert.rejects(full.pump.run(), ClosedError);
  await settle();
  full.pump.giveUp();
  await Promise.all([fullRunning, full.pump.stored()]);
  assert.deepEqual([full.pump.unstoredPackets, full.clock.waiting], [1, 0]);
});

Deno.test("packets too large are told of when they are 1, 2, 4, 8; a doubt once", async () => {
  const splitter = new PacketSplitter({ input: "lines", maxPacketBytes: 3, oversize: "skip" });
  const chunks = Array.from({ length: 9 }, () => "too long\n");
  const { pump, troubles } = setUp(sourceOf(...chunks), undefined, { splitter });
  await pump.run();
  assert.deepEqual(troubles.map((words) => /\((\d) so far\)/.exec(words)?.[1]), [
    "1",
    "2",
    "4",
    "8",
  ]);

  const strange = new PacketSplitter({ input: "lines", maxPacketBytes: 1_000_000 });
  const bulk = Array.from({ length: 5 }, () => "x".repeat(40_000));
  const doubtful = setUp(sourceOf(...bulk), undefined, { splitter: strange });
  await doubtful.pump.run();
  assert.equal(doubtful.troubles.length, 1);
  assert.match(doubtful.troubles[0] ?? "", /KiB and no newline/);
});

Deno.test("a queue that is closed meanwhile leaves a count of what it did not take", async () => {
  const { pump, clock } = setUp(
    sourceOf("a\n"),
    (attempt) => attempt === 1 ? fileError("disk-full") : new ClosedError("closed"),
  );
  const running = pump.run();
  running.catch(() => {});
  await settle();
  pump.stop();
  const settled = pump.stored();
  await clock.advance();
  await settled;
  await assert.rejects(running, ClosedError);
  assert.equal(pump.unstoredPackets, 1);
});

Deno.test("a reader that has gone swallows the rest; one that is slow costs bounded memory", async () => {
  const broken = new BackgroundWriter({
    write: () => Promise.reject(new Deno.errors.BrokenPipe("gone")),
  });
  broken.write("a");
  await broken.flushed();
  assert.equal(broken.broken, true);
  broken.write("b");
  await broken.flushed();

  const gate = Promise.withResolvers<void>();
  let written = 0;
  const slow = new BackgroundWriter({
    async write(bytes) {
      await gate.promise;
      written += bytes.length;
      return bytes.length;
    },
  });
  for (let i = 0; i < 1000; i++) slow.write("x".repeat(1024));
  assert.equal(slow.droppedWrites, 1000 - 256);
  gate.resolve();
  await slow.flushed();
  assert.equal(written, 256 * 1024);
});

Deno.test("a failure that may pass costs no line; one that goes on costs those beyond the bound", async () => {
  let full = true;
  let text = "";
  const sink = {
    write(bytes: Uint8Array) {
      // The disk takes a few bytes, then no more.
      if (full && text.length > 0) return Promise.reject(new Error("No space left (os error 28)"));
      const part = full ? bytes.subarray(0, 3) : bytes;
      text += new TextDecoder().decode(part);
      return Promise.resolve(part.length);
    },
  };
  const options = { format: "text", level: "info", live: false, colors: false } as const;
  const log = new LogConsole(options, sink, () => 0);
  log.info("first");
  await log.flushed();
  log.info("second");
  await log.flushed();
  assert.equal(text, "197", "a part of the first line");
  full = false;
  log.info("third");
  await log.flushed();
  assert.deepEqual(
    text.trimEnd().split("\n").map((line) => line.replace(/^1970\S+ info +/, "")),
    ["first", "second", "third"],
  );

  full = true;
  for (let i = 0; i < 300; i++) log.info("x".repeat(1000));
  await log.flushed();
  full = false;
  await log.flushed();
  log.info("again");
  await log.flushed();
  const last = text.trimEnd().split("\n").slice(-2);
  assert.match(last[0] ?? "", /warn +\d+ log lines were dropped before this one/);
  assert.match(last[1] ?? "", /info +again$/);
});

Deno.test("foreign text cannot command a terminal, nor begin a line", async () => {
  let text = "";
  const sink = {
    write(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    },
  };
  const options = { format: "text", level: "info", live: false, colors: false } as const;
  const log = new LogConsole(options, sink, () => 0);
  log.warn("no such host: \x1b[2Jevil\u009b1m\nerror forged\u202e");
  await log.flushed();
  assert.match(text, /no such host: \\x1b\[2Jevil\\x9b1m\\x0aerror forged\\u202e\n$/);
  assert.equal(explain(new CommandError("a\x07b")), "a\\x07b");
});
