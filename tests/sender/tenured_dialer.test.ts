import assert from "node:assert/strict";
import { KernelCallError, WireError } from "../../src/base/errors.ts";
import {
  type Dialer,
  type SocketSample,
  TcpState,
  type Wire,
  type WireOutcome,
} from "../../src/base/ports.ts";
import { tenuredDialer } from "../../src/sender/tenured_dialer.ts";

/** A right to send that a test ends. */
class Right {
  leftMs = 1000;
  readonly #listeners = new Set<() => void>();
  #onRenewed = (): void => {};

  validForMs(): number {
    return this.leftMs;
  }

  subscribeLapsed(onLapsed: () => void): () => void {
    this.#listeners.add(onLapsed);
    return () => void this.#listeners.delete(onLapsed);
  }

  lapse(): void {
    this.leftMs = 0;
    for (const onLapsed of this.#listeners) onLapsed();
  }

  subscribeRenewed(onRenewed: () => void): () => void {
    this.#onRenewed = onRenewed;
    return () => {};
  }

  renew(): void {
    this.leftMs = 1000;
    this.#onRenewed();
  }

  get listeners(): number {
    return this.#listeners.size;
  }
}

const SAMPLE: SocketSample = {
  ...{ state: TcpState.ESTABLISHED, sendQueueBytes: 3, notSentBytes: 0, bytesAcked: 8 },
  ...{ unackedSegments: 1, sendMssBytes: 1448, sendWindowBytes: 65536, windowLimitedUs: 0 },
  ...{ rttUs: 100, lastAckMs: 1, probes: 0, retransmits: 0, totalRetransmits: 0, hangup: false },
  readBytes: 6,
};

/** A connection that notes what is done with it. */
class NotingWire implements Wire {
  readonly localAddress = "192.0.2.1:50123";
  readonly remoteAddress = "192.0.2.7:4000";
  readonly done: string[] = [];

  write(bytes: Uint8Array): Promise<number> {
    this.done.push("write");
    return Promise.resolve(bytes.length);
  }

  read(): Promise<null> {
    return Promise.resolve(null);
  }

  sample(): SocketSample {
    if (this.done.includes("abort")) throw new Error("nothing is known of it any more");
    return SAMPLE;
  }

  takeSocketError(): undefined {
    return undefined;
  }

  askPeer(): void {
    this.done.push("ask");
  }

  localFault(): undefined {
    return undefined;
  }

  shutdownWrite(): void {
    this.done.push("shutdown");
  }

  abort(): void {
    this.done.push("abort");
  }

  close(): void {
    this.done.push("close");
  }

  concluded({ endedHere = false }: WireOutcome): void {
    this.done.push(endedHere ? "ended here" : "concluded");
  }
}

const isLapsed = (error: unknown) =>
  error instanceof WireError && /could not renew/.test(error.message);

async function dialed(): Promise<{ right: Right; below: NotingWire; wire: Wire }> {
  const right = new Right();
  const below = new NotingWire();
  const dialer: Dialer = { remote: "tcp://legacy:4000", dial: () => Promise.resolve(below) };
  const wire = await tenuredDialer(dialer, right).dial(new AbortController().signal);
  return { right, below, wire };
}

Deno.test("a right that lasts until it is given back costs nothing", () => {
  const dialer: Dialer = { remote: "tcp://legacy:4000", dial: () => Promise.reject(new Error()) };
  const right = new Right();
  right.leftMs = Infinity;
  assert.equal(tenuredDialer(dialer, right), dialer);
});

Deno.test("under a right that can lapse a choice among servers stays one", () => {
  const choice = { failuresOfNext: () => 3, refused: () => 0 };
  const remote = "tcp://a:4000,tcp://b:4000";
  const dialer: Dialer = { remote, choice, dial: () => Promise.reject(new Error()) };
  assert.equal(tenuredDialer(dialer, new Right()).choice, choice);
});

Deno.test("while the right has run out nobody is to connect to us, and who waits is told why", async () => {
  const right = new Right();
  const waiting = Promise.withResolvers<Wire>();
  const rest = (): void => waiting.reject(new Error("nobody is waited for any more"));
  const remote = "listen://127.0.0.1:4000";
  const dialer: Dialer = { remote, waits: true, rest, dial: () => waiting.promise };
  const dialed = tenuredDialer(dialer, right).dial(new AbortController().signal);
  right.lapse();
  await assert.rejects(dialed, isLapsed);
});

Deno.test("without the right no connection is made, and one that comes too late is reset", async () => {
  const right = new Right();
  const below = new NotingWire();
  let dials = 0;
  const dialer = tenuredDialer({
    remote: "tcp://legacy:4000",
    dial() {
      dials++;
      right.leftMs = 0;
      return Promise.resolve(below);
    },
  }, right);
  await assert.rejects(dialer.dial(new AbortController().signal), isLapsed);
  assert.deepEqual(below.done, ["ended here", "abort"]);
  await assert.rejects(dialer.dial(new AbortController().signal), isLapsed);
  assert.equal(dials, 1);
});

Deno.test("a right that runs out is no fault of the server, and what came of packets is passed on", async () => {
  const { right, below, wire } = await dialed();
  wire.concluded?.({ confirmedAny: true, unconfirmedPackets: 0 });
  right.lapse();
  assert.deepEqual(below.done, ["concluded", "ended here", "abort"]);
});

Deno.test("when the right runs out the connection is reset at once, and looks dead", async () => {
  const { right, below, wire } = await dialed();
  assert.equal(await wire.write(new Uint8Array(3)), 3);
  right.lapse();
  assert.deepEqual(below.done, ["write", "ended here", "abort"]);
  assert.deepEqual(wire.sample(), { ...SAMPLE, state: TcpState.CLOSE, hangup: true });
  assert.equal(wire.takeSocketError(), "LAPSED");
  // It is valid again; this connection is over all the same.
  right.leftMs = 1000;
  await assert.rejects(wire.write(new Uint8Array(3)), isLapsed);
  wire.askPeer(true);
  wire.shutdownWrite();
  assert.deepEqual(below.done, ["write", "ended here", "abort"]);
});

Deno.test("whoever reads when the right runs out learns that it has", async (t) => {
  const ends: [string, (read: PromiseWithResolvers<null>) => void][] = [
    ["the end", ({ resolve }) => resolve(null)],
    ["a failure", ({ reject }) => reject(new WireError("ECANCELED", "given up here"))],
  ];
  for (const [name, end] of ends) {
    await t.step(`${name} of what is below`, async () => {
      const { right, below, wire } = await dialed();
      const read = Promise.withResolvers<null>();
      below.read = () => read.promise;
      const reading = wire.read(new Uint8Array(1));
      right.lapse();
      end(read);
      await assert.rejects(reading, { code: "LAPSED" });
    });
  }
});

Deno.test("whoever writes when the right runs out learns that it has, and the wire below once", async () => {
  const { right, below, wire } = await dialed();
  const write = Promise.withResolvers<number>();
  below.write = () => write.promise;
  const writing = wire.write(new Uint8Array(3));
  right.lapse();
  write.reject(new WireError("ECANCELED", "given up here"));
  await assert.rejects(writing, { code: "LAPSED" });
  wire.concluded?.({ confirmedAny: false, unconfirmedPackets: 1 });
  assert.deepEqual(below.done, ["ended here", "abort"]);
});

Deno.test("whoever was waited for when the right ran out is waited for again once it is renewed", () => {
  const right = new Right();
  const done: string[] = [];
  tenuredDialer({
    remote: "listen://127.0.0.1:4000",
    waits: true,
    rest: () => void done.push("rest"),
    resume: () => void done.push("resume"),
    dial: () => Promise.reject(new Error("nobody comes")),
  }, right);
  right.lapse();
  right.renew();
  assert.deepEqual(done, ["rest", "resume"]);
});

Deno.test("a process that wakes resets before it writes a byte, or ends in order", async (t) => {
  const ways: [string, (wire: Wire) => Promise<unknown>][] = [
    ["write", (wire) => assert.rejects(wire.write(new Uint8Array(3)), isLapsed)],
    ["shutdownWrite", (wire) => Promise.resolve(wire.shutdownWrite())],
    ["close", (wire) => Promise.resolve(wire.close())],
  ];
  for (const [name, way] of ways) {
    await t.step(name, async () => {
      const { right, below, wire } = await dialed();
      // Its timer has not gone off yet.
      right.leftMs = -1;
      await way(wire);
      assert.deepEqual(below.done, ["ended here", "abort"]);
    });
  }
});

Deno.test("a connection that has ended hears of nothing", async () => {
  const { right, below, wire } = await dialed();
  assert.equal(right.listeners, 1);
  wire.close();
  right.lapse();
  assert.equal(right.listeners, 0);
  assert.deepEqual(below.done, ["close"]);
});

Deno.test("it ends with the right also where the kernel refuses to reset", async () => {
  class UnresetWire extends NotingWire {
    override abort(): void {
      super.abort();
      throw new KernelCallError("connect(AF_UNSPEC)", "refused");
    }
  }
  const right = new Right();
  const wires = [new UnresetWire(), new UnresetWire()] as const;
  const ends: (() => void)[] = [() => {}, () => right.lapse()];
  const dialer = tenuredDialer({
    remote: "tcp://legacy:4000",
    dial: () => {
      ends.shift()?.();
      return Promise.resolve(wires[1 - ends.length] ?? wires[0]);
    },
  }, right);
  const { signal } = new AbortController();
  const wire = await dialer.dial(signal);
  await assert.rejects(dialer.dial(signal), isLapsed);
  await assert.rejects(wire.write(new Uint8Array(1)), isLapsed);
  await assert.rejects(
    wire.read(new Uint8Array(1)),
    /refuses to reset the connection, so that what has been written to it may still arrive/,
  );
  for (const { done } of wires) assert.deepEqual(done, ["ended here", "abort"]);
});
