/**
 * An error that ends a sender reaches the user as itself, once: never twice, never hidden
 * behind a SuppressedError, and never not at all.
 */
import assert from "node:assert/strict";
import { OptionError, SocketOptionError } from "../../src/base/errors.ts";
import type { Dialer } from "../../src/base/ports.ts";
import { tcpDialer } from "../../src/kernel/dialer.ts";
import { serveStatus } from "../../src/observe/http.ts";
import { instrument } from "../../src/observe/metrics.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { Relay } from "../../src/relay/relay.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";

const FATAL = new SocketOptionError("ttl", 1, "because of this test");

/** The first attempt, which the first packet causes, ends the sender. */
const fatalDialer: Dialer = { remote: "tcp://test:1", dial: () => Promise.reject(FATAL) };

/** Never answers, and never fails. */
const deafDialer: Dialer = {
  remote: "tcp://test:1",
  dial: (signal) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    }),
};

/** What a block throws that a sender is used in; undefined: nothing. */
async function thrownBy(
  block: (sender: Sender, dir: TempDir) => Promise<void>,
  options: Partial<SenderOptions> = {},
): Promise<unknown> {
  using dir = new TempDir();
  const run = async () => {
    await using sender = await Sender.open({
      queue: dir.queue,
      remote: "tcp://test:1",
      dialer: fatalDialer,
      ...options,
    });
    await block(sender, dir);
  };
  try {
    await within("the block ends", run());
    return undefined;
  } catch (error) {
    return error;
  }
}

const ended = (sender: Sender) => until("the sender ends", () => sender.state === "closed");

Deno.test("told by drained: the block throws that, and its end nothing", async () => {
  const thrown = await thrownBy(async (sender) => {
    await sender.enqueue("x");
    await sender.drained();
  });
  assert.equal(thrown, FATAL);
});

Deno.test("told by drained after the end, and handled: nothing is thrown", async () => {
  const thrown = await thrownBy(async (sender) => {
    await sender.enqueue("x");
    await ended(sender);
    await assert.rejects(sender.drained(), (error) => error === FATAL);
  });
  assert.equal(thrown, undefined);
});

for (const ownQueue of [true, false]) {
  const whose = ownQueue ? "a queue of its own" : "a queue of somebody else's";
  Deno.test(`told by enqueue into ${whose}: the block throws that, and its end nothing`, async () => {
    using dir = new TempDir();
    await using queue = await OutboundQueue.open(dir.queue);
    for (const call of ["enqueue", "enqueueMany", "writable"] as const) {
      const thrown = await thrownBy(async (own) => {
        const sender = ownQueue
          ? own
          : await Sender.open(queue, "tcp://test:1", { dialer: fatalDialer });
        try {
          await sender.enqueue("x");
          await ended(sender);
          if (call === "writable") await ReadableStream.from(["y"]).pipeTo(sender.writable);
          else if (call === "enqueue") await sender.enqueue("y");
          else await sender.enqueueMany(["y"]);
        } finally {
          if (!ownQueue) await sender[Symbol.asyncDispose]();
        }
      });
      assert.equal(thrown, FATAL, call);
    }
    assert.equal(queue.stats().packets, ownQueue ? 0 : 3, "what is refused is not stored");
  });
}

Deno.test("told by an enqueue that waited for room", async () => {
  let fail = (_: unknown) => {};
  const dialer: Dialer = {
    remote: "tcp://test:1",
    dial: () => new Promise((_, reject) => fail = reject),
  };
  const thrown = await thrownBy(async (sender) => {
    await sender.enqueue("x");
    const waiting = sender.enqueue("y");
    await until("an attempt is under way", () => sender.state === "connecting");
    fail(FATAL);
    await waiting;
  }, { dialer, queueOptions: { maxPackets: 1, overflow: "wait" } });
  assert.equal(thrown, FATAL);
});

Deno.test("told by status: a status with the error is enough", async () => {
  for (const rethrow of [true, false]) {
    const thrown = await thrownBy(async (sender) => {
      const statuses = sender.status();
      await sender.enqueue("x");
      for await (const { error } of statuses) {
        if (error !== undefined && rethrow) throw error;
      }
    });
    assert.equal(thrown, rethrow ? FATAL : undefined);
  }
});

Deno.test("a status that nobody has taken tells nobody", async () => {
  const thrown = await thrownBy(async (sender) => {
    const statuses = sender.status();
    await statuses.next();
    await sender.enqueue("x");
    await ended(sender);
  });
  assert.equal(thrown, FATAL);
});

Deno.test("told by closed", async () => {
  const thrown = await thrownBy(async (sender) => {
    await sender.enqueue("x");
    await sender.closed;
  });
  assert.equal(thrown, FATAL);
});

Deno.test("told by close: each call says it, and the end of the block nothing", async () => {
  const thrown = await thrownBy(async (sender) => {
    await sender.enqueue("x");
    await ended(sender);
    await assert.rejects(sender.close(), (error) => error === FATAL);
    await assert.rejects(sender.close(), (error) => error === FATAL);
  });
  assert.equal(thrown, undefined);
});

Deno.test("told by nobody: the end of the block throws it, whenever it happened", async () => {
  for (const when of ["before the end", "at the end"]) {
    const thrown = await thrownBy(async (sender) => {
      await sender.enqueue("x");
      if (when === "before the end") await ended(sender);
    });
    assert.equal(thrown, FATAL, when);
  }
});

Deno.test("the log alone tells nobody: a program may not end as if all were well", async () => {
  const lines: string[] = [];
  const log = (line: string) => void lines.push(line);
  const thrown = await thrownBy(async (sender) => {
    await sender.enqueue("x");
    await ended(sender);
  }, { logger: { debug: log, info: log, warn: log, error: log } });
  assert.equal(thrown, FATAL);
  assert(lines.some((line) => line.includes(FATAL.message)));
});

Deno.test("who only watches a sender, or enqueues for others, hides nothing", async (t) => {
  await t.step("the status page", async () => {
    let failed: string | undefined;
    const thrown = await thrownBy(async (sender) => {
      await using status = serveStatus(sender, { port: 0 });
      await sender.enqueue("x");
      await ended(sender);
      await until("the page shows it", async () => {
        const { lastFailure } = await (await fetch(new URL("status", status.url))).json();
        failed = lastFailure?.words;
        return failed !== undefined;
      });
    });
    assert.equal(failed, `the sender stopped: ${FATAL.message}`);
    assert.equal(thrown, FATAL);
  });
  await t.step("instruments", async () => {
    const thrown = await thrownBy(async (sender) => {
      using _instruments = instrument(sender);
      await sender.enqueue("x");
      await ended(sender);
    });
    assert.equal(thrown, FATAL);
  });
  await t.step("a relay whose client was refused", async () => {
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    const thrown = await thrownBy(async (sender) => {
      await sender.enqueue("x");
      await ended(sender);
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const logger = { debug: log, info: log, warn: log, error: log };
      await using _relay = new Relay({ sender, listeners: [listener], input: "lines", logger });
      using client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
      await client.write(new TextEncoder().encode("y\n"));
      await until("it is refused", () => lines.some((line) => line.includes(FATAL.message)));
    });
    assert.equal(thrown, FATAL);
  });
});

Deno.test("told once, a second disposal is silent", async () => {
  using dir = new TempDir();
  const sender = await Sender.open(dir.queue, "tcp://test:1", { dialer: fatalDialer });
  await sender.enqueue("x");
  await assert.rejects(sender[Symbol.asyncDispose](), (error) => error === FATAL);
  await sender[Symbol.asyncDispose]();
});

Deno.test("a file that was taken away: who was told by enqueue is not told again", async () => {
  // Stands still, so that it is the enqueue that finds out, and the sender afterwards.
  const clock = new ManualClock();
  const thrown = await thrownBy(async (sender, dir) => {
    Deno.removeSync(dir.queue);
    clock.advance(1000);
    try {
      await sender.enqueue("x");
    } finally {
      await ended(sender);
    }
  }, { dialer: deafDialer, queueOptions: { clock } });
  assert(thrown instanceof Error);
  assert.equal(thrown.name, "QueueFileError");
});

Deno.test("a file that was taken away, told by nobody: the end of the block throws it", async () => {
  const thrown = await thrownBy(async (sender, dir) => {
    Deno.removeSync(dir.queue);
    await ended(sender);
  }, { dialer: deafDialer });
  assert(thrown instanceof Error);
  assert.equal(thrown.name, "QueueFileError");
});

Deno.test("an error of the block's own is thrown as it is where the sender has none", async () => {
  const thrown = await thrownBy(async (sender) => {
    await sender.close({ deliverTimeoutMs: -1 });
  }, { dialer: deafDialer });
  assert(thrown instanceof OptionError);
});

Deno.test("told where a wire of one's own cannot be given back; and the queue is free", async () => {
  await using server = new ScriptedServer().start();
  using dir = new TempDir();
  const below = tcpDialer({ hostname: "127.0.0.1", port: Number(new URL(server.remote).port) });
  const dialer: Dialer = {
    remote: below.remote,
    async dial(signal, onLookedUp) {
      const wire = await below.dial(signal, onLookedUp);
      const close = wire.close.bind(wire);
      wire.close = () => {
        close();
        throw FATAL;
      };
      return wire;
    },
  };
  const sender = await Sender.open(dir.queue, server.remote, { dialer, holdMs: 0 });
  await sender.enqueue("x");
  await sender.drained();
  await assert.rejects(within("it ends", sender.close()), (error) => error === FATAL);
  await using again = await Sender.open(dir.queue, server.remote);
  assert.equal(again.state, "idle");
});
