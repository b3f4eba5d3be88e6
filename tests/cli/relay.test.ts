import assert from "node:assert/strict";
import { bytes } from "../support/bytes.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";
import { packetsIn, relayPermissions, Sendq, withFewFiles } from "./helpers.ts";

/** A program that believes it speaks to its server. */
class Client implements Disposable {
  heard = "";
  readonly #connection: Deno.TcpConn;
  readonly #reading: Promise<string>;

  constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
    this.#reading = this.#listen();
  }

  static async connect(address: string): Promise<Client> {
    const { hostname, port } = new URL(address);
    return new Client(await Deno.connect({ hostname, port: Number(port) }));
  }

  async send(text: string | Uint8Array): Promise<void> {
    const sent = typeof text === "string" ? bytes(text) : text;
    for (let at = 0; at < sent.length;) at += await this.#connection.write(sent.subarray(at));
  }

  /** How it ended, once it has: "closed", "reset", "broken". */
  get ended(): Promise<string> {
    return this.#reading;
  }

  /** Ends its side, and waits until it is closed in turn. Returns how that was. */
  async finish(): Promise<string> {
    await this.#connection.closeWrite();
    return await this.#reading;
  }

  async #listen(): Promise<string> {
    const buffer = new Uint8Array(4096);
    try {
      for (;;) {
        const length = await this.#connection.read(buffer);
        if (length === null) return "closed";
        this.heard += new TextDecoder().decode(buffer.subarray(0, length));
      }
    } catch (error) {
      return error instanceof Deno.errors.ConnectionReset ? "reset" : "broken";
    }
  }

  [Symbol.dispose](): void {
    try {
      this.#connection.close();
    } catch {
      // It was closed by the test.
    }
  }
}

/**
 * A client on a Unix socket: sends a text, ends its side, and waits until it is
 * closed in turn. A process of its own, since paths cannot be granted to the
 * tests beforehand.
 */
async function sendByUnix(address: string, text: string): Promise<void> {
  const program = `const path = ${JSON.stringify(address.slice("unix:".length))};
    const connection = await Deno.connect({ transport: "unix", path });
    await connection.write(new TextEncoder().encode(${JSON.stringify(text)}));
    await connection.closeWrite();
    if (await connection.read(new Uint8Array(1)) !== null) Deno.exit(1);`;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), { args: ["eval", program] })
    .output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
}

/** Where a relay of the tests listens, once it does. */
async function addressOf(relay: Sendq): Promise<string> {
  await relay.says(/listening on \S+\n/);
  return /listening on (\S+)\n/.exec(relay.stderr)?.[1] ?? "";
}

function freeAddress(): string {
  return `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
}

function linesOf(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${name} ${i}\n`);
}

function linesFrom(text: string, name: string): string[] {
  return text.split(/(?<=\n)/).filter((line) => line.startsWith(`${name} `));
}

Deno.test("relay: each client's packets arrive whole and in its order", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using relay = Sendq.relay(freeAddress(), server.remote, dir.queue);
  const address = await addressOf(relay);
  const names = ["a", "b", "c", "d"];
  await Promise.all(names.map(async (name) => {
    using client = await Client.connect(address);
    const bytes = linesOf(name, 2000).join("");
    // Cut anywhere, so that the clients' packets meet half-way.
    for (let at = 0; at < bytes.length; at += 777) await client.send(bytes.slice(at, at + 777));
    assert.equal(await client.finish(), "closed");
  }));
  await until(
    "all packets",
    () => server.bytes.length >= names.length * linesOf("a", 2000).join("").length,
  );
  for (const name of names) assert.deepEqual(linesFrom(server.text, name), linesOf(name, 2000));
  relay.child.kill("SIGTERM");
  assert.equal(await relay.ended(), 0, relay.stderr);
  assert.match(relay.stderr, /done: 8,000 packets delivered/);
});

Deno.test("relay: a client that is closed in turn has all its packets on disk", async () => {
  using dir = new TempDir();
  await using relay = Sendq.relay(freeAddress(), freeAddress(), dir.queue);
  using client = await Client.connect(await addressOf(relay));
  await client.send("one\ntwo\nthree\n");
  assert.equal(await client.finish(), "closed");
  assert.equal(await packetsIn(dir.queue), 3);
  relay.child.kill("SIGTERM");
  await relay.says(/SIGTERM: stopping/);
  relay.child.kill("SIGTERM");
  assert.equal(await relay.ended(), 75, relay.stderr);
  assert.match(relay.stderr, /stopped: 3 packets kept/);
});

for (const signal of ["SIGTERM", "SIGKILL"] as const) {
  Deno.test(`relay: after ${signal} a client whose packets are not all on disk sees a reset`, async () => {
    using dir = new TempDir();
    await using relay = Sendq.relay(
      ...[freeAddress(), freeAddress(), dir.queue] as const,
      ...["--max-packets", "4", "--deliver-timeout", "0s"],
    );
    using client = await Client.connect(await addressOf(relay));
    await client.send("1\n2\n3\n4\n5\n6\n7\n8\n");
    const end = client.finish();
    await relay.says(/the queue is full/);
    relay.child.kill(signal);
    assert.equal(await end, "reset");
    await relay.ended();
    assert.equal(await packetsIn(dir.queue), 4);
  });
}

Deno.test("relay: a client that ends inside a packet loses that one only", async (t) => {
  const header = new Uint8Array([0, 0, 0, 3, 97, 98, 10]);
  const cases: [string, Uint8Array, Uint8Array][] = [
    ["lines", bytes("one\ntwo\nunfini"), bytes("one\ntwo\n")],
    [
      "length32",
      new Uint8Array([...header, ...header, ...header.slice(0, 6)]),
      new Uint8Array([...header, ...header]),
    ],
  ];
  for (const [framing, sent, wire] of cases) {
    await t.step(framing, async () => {
      using dir = new TempDir();
      await using server = new ReadingServer();
      await using relay = Sendq.relay(freeAddress(), server.remote, dir.queue, "-i", framing);
      const address = await addressOf(relay);
      {
        using client = await Client.connect(address);
        await client.send(sent);
      }
      await relay.says(
        /warn +client 1 \(127\.0\.0\.1:\d+\) ended inside a packet: 6 bytes of it are dropped, stored before it: 2 packets/,
      );
      using other = await Client.connect(address);
      await other.send(wire);
      assert.equal(await other.finish(), "closed");
      await until("four packets", () => server.bytes.length === 2 * wire.length);
      assert.deepEqual(new Uint8Array(server.bytes), new Uint8Array([...wire, ...wire]));
    });
  }
});

Deno.test("relay: a client whose framing is wrong is cut off, the others are not", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using relay = Sendq.relay(
    ...[freeAddress(), server.remote, dir.queue] as const,
    ...["--max-packet-bytes", "10"],
  );
  const address = await addressOf(relay);
  using good = await Client.connect(address);
  await good.send("good\n");
  using bad = await Client.connect(address);
  await bad.send("fine\nmuch too long a line\n");
  await relay.says(/client \d \S+ is cut off, stored before it: 1 packet: Input byte 5: this/);
  await good.send("better\n");
  assert.equal(await good.finish(), "closed");
  await until("three packets", () => server.bytes.length === "good\nfine\nbetter\n".length);
  assert.deepEqual(server.text.split("\n").sort(), ["", "better", "fine", "good"]);
});

Deno.test("relay: a full queue holds clients back, and everything arrives in the end", async () => {
  using dir = new TempDir();
  const port = ScriptedServer.freePort();
  await using relay = Sendq.relay(
    ...[freeAddress(), `tcp://127.0.0.1:${port}`, dir.queue] as const,
    ...["--max-packets", "200", "--hold", "0s"],
  );
  const address = await addressOf(relay);
  const sent = linesOf("a", 10_000).map((line) => line.padStart(1000, "x"));
  let written = false;
  using client = await Client.connect(address);
  // Rejected only where the test has failed already.
  const writing = client.send(sent.join("")).then(() => written = true, () => {});
  using other = await Client.connect(address);
  await relay.says(/the queue is full, or its disk or database is slow; the producer has to wait/);
  const stored = await packetsIn(dir.queue);
  assert(stored > 150 && stored <= 200, `${stored} packets: full but for less than a batch`);
  assert.equal(written, false, "10 MB went into a socket that nobody should read");
  await using server = new ReadingServer({ port });
  await other.send("from another client\n");
  await writing;
  assert.equal(await client.finish(), "closed");
  assert.equal(await other.finish(), "closed");
  const size = sent.join("").length + "from another client\n".length;
  await until("everything", () => server.bytes.length >= size);
  assert.equal(server.text.replace("from another client\n", ""), sent.join(""));
});

Deno.test("relay: what the server says goes to whom --replies says", async (t) => {
  const cases = [
    ["discard", "", ""],
    ["last-client", "", "answer\n"],
    ["all", "answer\n", "answer\n"],
  ] as const;
  for (const [replies, toFirst, toLast] of cases) {
    await t.step(replies, async () => {
      using dir = new TempDir();
      await using server = new ReadingServer();
      await using relay = Sendq.relay(
        ...[freeAddress(), server.remote, dir.queue] as const,
        ...["--replies", replies, "--reply-timeout", "100ms"],
      );
      const address = await addressOf(relay);
      using first = await Client.connect(address);
      await first.send("first\n");
      await until("the first packet", () => server.text === "first\n");
      using last = await Client.connect(address);
      await last.send("last\n");
      await until("the last packet", () => server.text === "first\nlast\n");
      await server.say("answer\n");
      await until("the answer", () => first.heard === toFirst && last.heard === toLast);
      // Both are let go after what they were told.
      assert.deepEqual(await Promise.all([first.finish(), last.finish()]), ["closed", "closed"]);
      assert.deepEqual([first.heard, last.heard], [toFirst, toLast]);
    });
  }
});

Deno.test("relay: --max-clients lets further ones wait until one leaves", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using relay = Sendq.relay(
    ...[freeAddress(), server.remote, dir.queue] as const,
    ...["--max-clients", "1"],
  );
  const address = await addressOf(relay);
  using first = await Client.connect(address);
  await first.send("first\n");
  await until("the first packet", () => server.text === "first\n");
  using second = await Client.connect(address);
  await second.send("second\n");
  await relay.says(/1 clients are connected; further ones have to wait/);
  await first.send("first again\n");
  await until("the first client's next", () => server.text === "first\nfirst again\n");
  assert.equal(await first.finish(), "closed");
  await until("the second client", () => server.text === "first\nfirst again\nsecond\n");
});

Deno.test("relay: a Unix socket, killed and started again on it", async () => {
  using dir = new TempDir();
  const address = `unix:${dir.path}/out.sock`;
  const port = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${port}`;
  {
    await using relay = Sendq.relay(address, remote, dir.queue);
    assert.equal(await addressOf(relay), address);
    await sendByUnix(address, "one\n");

    await using second = Sendq.relay(address, remote, `${dir.path}/other.db`);
    assert.equal(await second.ended(), 1);
    assert.match(
      second.stderr,
      /out\.sock is in use already: another program listens there, or it is no socket/,
    );
    relay.child.kill("SIGKILL");
    await relay.ended();
  }
  assert(Deno.lstatSync(`${dir.path}/out.sock`).isSocket, "the killed one left its socket");
  await using server = new ReadingServer({ port });
  await using relay = Sendq.relay(address, remote, dir.queue);
  await addressOf(relay);
  await sendByUnix(address, "two\n");
  await until("both packets", () => server.text === "one\ntwo\n");
  relay.child.kill("SIGTERM");
  assert.equal(await relay.ended(), 0, relay.stderr);
});

Deno.test("relay: killed while clients send, it loses nothing that was stored", async () => {
  using dir = new TempDir();
  const listen = freeAddress();
  const port = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${port}`;
  const names = ["a", "b", "c"];
  {
    await using relay = Sendq.relay(listen, remote, dir.queue);
    const address = await addressOf(relay);
    const clients = await Promise.all(names.map(async (name) => {
      const client = await Client.connect(address);
      const sending = (async () => {
        for (const line of linesOf(name, 1_000_000)) await client.send(line);
      })();
      return { client, sending: sending.catch(() => {}) };
    }));
    await until("1000 packets stored", async () => await packetsIn(dir.queue) > 1000);
    relay.child.kill("SIGKILL");
    await relay.ended();
    for (const { client, sending } of clients) {
      await sending;
      client[Symbol.dispose]();
    }
  }
  const stored = await packetsIn(dir.queue);
  await using server = new ReadingServer({ port });
  await using relay = Sendq.relay(listen, remote, dir.queue);
  using client = await Client.connect(await addressOf(relay));
  await client.send("z 0\n");
  assert.equal(await client.finish(), "closed");
  await until("the last packet", () => server.text.endsWith("z 0\n"));
  const received = server.text.split(/(?<=\n)/);
  assert.equal(received.length, stored + 1);
  for (const name of names) {
    const lines = linesFrom(server.text, name);
    assert.deepEqual(lines, linesOf(name, lines.length), `gaps in what ${name} sent`);
  }
});

Deno.test("relay: permissions that are missing are named all at once", async () => {
  using dir = new TempDir();
  const unix = `unix:${dir.path}/out.sock`;
  await using relay = new Sendq([], [
    ...["relay", "-l", "tcp://127.0.0.1:4001", "-l", unix, "-t", "tcp://127.0.0.1:4000"],
    ...["-q", dir.queue],
  ]);
  assert.equal(await relay.ended(), 77);
  const named = relay.stderr.trim().split(" ").filter((word) => word.startsWith("--allow-"));
  const [net, read, write] = relayPermissions(unix, "tcp://127.0.0.1:4000", dir.queue);
  assert.deepEqual(named.slice(0, 3), [
    `--allow-net=127.0.0.1:4001,${unix},127.0.0.1:4000`,
    read,
    write,
  ]);
  assert(net?.includes(unix));
});

Deno.test("relay: --socket-mode says who may connect to a Unix socket", async () => {
  using dir = new TempDir();
  const address = `unix:${dir.path}/out.sock`;
  const remote = freeAddress();
  await using relay = Sendq.relay(address, remote, dir.queue, "--socket-mode", "600");
  await addressOf(relay);
  assert.equal((Deno.lstatSync(`${dir.path}/out.sock`).mode ?? 0) & 0o777, 0o600);

  const cases: [string, string, RegExp][] = [
    [freeAddress(), "600", /--socket-mode needs --listen unix:PATH/],
    [address, "rw", /Expected permissions in octal digits/],
  ];
  for (const [listen, mode, words] of cases) {
    await using wrong = Sendq.relay(listen, remote, dir.queue, "--socket-mode", mode);
    assert.equal(await wrong.ended(), 2);
    assert.match(wrong.stderr, words);
  }
});

Deno.test("relay: a warning where others can reach it", async () => {
  using dir = new TempDir();
  const port = ScriptedServer.freePort();
  await using relay = Sendq.relay(`tcp://0.0.0.0:${port}`, freeAddress(), dir.queue);
  await relay.says(/warn +tcp:\/\/0\.0\.0\.0:\d+ is no loopback address: whoever reaches it can/);
});

Deno.test("relay: clients that take every descriptor do not end the delivery", async () => {
  using dir = new TempDir();
  const listen = freeAddress();
  const port = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${port}`;
  const permissions = relayPermissions(listen, remote, dir.queue);
  await using relay = withFewFiles(64, permissions, [
    ...["relay", "--listen", listen, "--to", remote, "--queue", dir.queue],
  ]);
  await relay.says(/listening on/);
  const clients: Client[] = [];
  try {
    const first = await Client.connect(listen);
    clients.push(first);
    await first.send("one\n");
    for (let i = 0; i < 80; i++) {
      try {
        clients.push(await Client.connect(listen));
      } catch (error) {
        // Reset before Deno has looked at it, or asked for the other end's address.
        const { ConnectionReset, NotConnected } = Deno.errors;
        assert(error instanceof ConnectionReset || error instanceof NotConnected, String(error));
      }
    }
    await relay.says(/clients are turned away/);
    // Nothing of theirs is on disk.
    const ends = clients.map(({ ended }) => ended);
    assert.equal(await within("the first end", Promise.race(ends)), "reset");
    // The connection to the server, which is made only now, finds its descriptors.
    await using server = new ReadingServer({ port });
    await until("the packet", () => server.text === "one\n");
    await first.send("two\n");
    await until("the next one", () => server.text === "one\ntwo\n");
    relay.child.kill("SIGTERM");
    assert.equal(await relay.ended(), 0, relay.stderr);
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
});
