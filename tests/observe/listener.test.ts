import assert from "node:assert/strict";
import { silentLogger } from "../../src/base/logger.ts";
import { ReaderConnection } from "../../src/observe/connection.ts";
import { FIGURES, type Reading } from "../../src/observe/figures.ts";
import { type HttpAnswer, HttpListener } from "../../src/observe/listener.ts";
import { prometheusText } from "../../src/observe/prometheus.ts";
import { until, within } from "../support/until.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { answerOf, getAs, StatusBench } from "./helpers.ts";

const TOKEN = "0123456789abcdef-token";

/** A listener whose time is the test's. */
class Bench implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly log: string[] = [];
  readonly listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly server: HttpListener;
  answers = 0;
  body: HttpAnswer["body"] = "hello";
  /** Of the next answers. */
  bodies: (HttpAnswer["body"] | Promise<HttpAnswer["body"]>)[] = [];
  #open: Deno.TcpConn[] = [];

  constructor(accepting: Partial<Deno.TcpListener> = {}) {
    const { listener } = this;
    this.server = new HttpListener({
      listener: {
        ...{ addr: listener.addr, ref() {}, unref() {}, close: () => listener.close() },
        accept: () => listener.accept(),
        ...accepting,
      } as Deno.Listener,
      clock: this.clock,
      logger: { ...silentLogger, warn: (words) => this.log.push(words) },
      answer: async () => {
        this.answers++;
        return { status: 200, headers: {}, body: await (this.bodies.shift() ?? this.body) };
      },
      failure: (status) => ({ status, headers: {}, body: "" }),
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.listener.addr.port}/`;
  }

  /** A connection on which this was sent. */
  async connect(text = ""): Promise<Deno.TcpConn> {
    const conn = await Deno.connect({ port: this.listener.addr.port, hostname: "127.0.0.1" });
    this.#open.push(conn);
    await conn.write(new TextEncoder().encode(text));
    return conn;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closing = this.server.close(1000);
    this.clock.advance(1000);
    await closing;
    for (const conn of this.#open) conn.close();
  }
}

/** What is read until the other side has ended the connection. */
async function ended(conn: Deno.TcpConn): Promise<string> {
  const reading = read(conn);
  await until("the end of the connection", () => reading.ended);
  return reading.text;
}

/** Reads in the background. */
function read(conn: Deno.TcpConn): { text: string; ended: boolean } {
  const reading = { text: "", ended: false };
  void (async () => {
    const buffer = new Uint8Array(65536);
    for (;;) {
      const length = await conn.read(buffer).catch(() => null);
      if (length === null) break;
      reading.text += new TextDecoder().decode(buffer.subarray(0, length));
    }
    reading.ended = true;
  })();
  return reading;
}

Deno.test("whoever does not finish a request is cut off", async () => {
  await using bench = new Bench();
  const slow = read(await bench.connect("GET / HTTP/1.1\r\nHost: x\r\nX-a: b"));
  const silent = read(await bench.connect());
  assert.equal((await answerOf(fetch(bench.url))).text, "hello");
  bench.clock.advance(14_999);
  assert.deepEqual([slow.ended, silent.ended], [false, false]);
  bench.clock.advance(1);
  await until("both are cut", () => slow.ended && silent.ended);
  assert.equal(slow.text, "");
});

Deno.test("an endless answer is not cut, and one that nobody takes is", async () => {
  await using bench = new Bench();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  bench.body = new ReadableStream({ start: (started) => void (controller = started) });
  const response = await fetch(bench.url);
  const reader = response.body?.getReader();
  bench.clock.advance(3_600_000);
  controller?.enqueue(new TextEncoder().encode("still here"));
  assert.equal(new TextDecoder().decode((await reader?.read())?.value), "still here");
  controller?.close();
  assert.equal((await reader?.read())?.done, true);

  bench.body = "x".repeat(50_000_000);
  const deaf = await bench.connect("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await until("it is being answered", () => bench.answers === 2);
  bench.clock.advance(30_000);
  assert((await ended(deaf)).length < 50_000_000);
});

Deno.test("a reader of an endless answer that takes nothing is cut, and its place is free", async () => {
  await using bench = new Bench();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let isCancelled = false;
  bench.body = new ReadableStream({
    start: (started) => void (controller = started),
    cancel: () => void (isCancelled = true),
  });
  const deaf = await bench.connect("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await until("it is being answered", () => bench.answers === 1);
  controller?.enqueue(new Uint8Array(50_000_000));
  controller?.enqueue(new Uint8Array(1));
  await until("it is waited for", () => bench.clock.nextInMs === 30_000);
  bench.clock.advance(29_999);
  assert.equal(isCancelled, false);
  bench.clock.advance(1);
  assert((await ended(deaf)).length < 50_000_000);
  await until("the owner learns it", () => isCancelled);

  // Also where its owner has given it up before.
  bench.body = new ReadableStream({ start: (started) => void (controller = started) });
  const next = await bench.connect("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await until("it is being answered", () => bench.answers === 2);
  controller?.enqueue(new Uint8Array(50_000_000));
  await until("it is waited for", () => bench.clock.nextInMs === 30_000);
  controller?.enqueue(new Uint8Array(1));
  controller?.close();
  bench.clock.advance(30_000);
  assert((await ended(next)).length < 50_000_000);
});

Deno.test("answers to requests behind the last answer of a connection end with it", async () => {
  await using bench = new Bench();
  const requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(4);
  const hasty = await bench.connect(requests);
  await ended(hasty);
  assert.equal(bench.answers, 4);
  await hasty.closeWrite();
  await until("no time runs", () => bench.clock.nextInMs === undefined);

  // The owner of an endless one learns that nobody reads it.
  let isCancelled = false;
  const { promise: first, resolve: answerFirst } = Promise.withResolvers<HttpAnswer["body"]>();
  const endless = new ReadableStream({ cancel: () => void (isCancelled = true) });
  bench.bodies = [first, endless];
  const conn = await bench.connect(requests);
  await until("all are being answered", () => bench.answers === 8);
  answerFirst("hello");
  assert.match(await ended(conn), /hello$/);
  await conn.closeWrite();
  await until("its owner learns it", () => isCancelled);
  await until("no time runs", () => bench.clock.nextInMs === undefined);
});

Deno.test("a newcomer takes the place of the one that has been idle longest", async () => {
  await using bench = new Bench();
  const silent: Deno.TcpConn[] = [];
  for (let i = 0; i < 64; i++) {
    silent.push(await bench.connect("GET"));
    bench.clock.advance(100);
  }
  const response = await answerOf(fetch(bench.url));
  assert.equal(response.text, "hello");
  const [first] = silent;
  assert(first !== undefined);
  assert.equal(await ended(first), "");
});

Deno.test("a form whose end does not come keeps nobody out, and is cut off", async () => {
  await using bench = new Bench();
  const form = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nto";
  const slow: { text: string; ended: boolean }[] = [];
  for (let i = 0; i < 64; i++) slow.push(read(await bench.connect(form)));
  assert.equal((await answerOf(fetch(bench.url))).text, "hello");
  bench.clock.advance(15_000);
  await until("all are cut", () => slow.every(({ ended }) => ended));
  assert.equal(bench.answers, 1);
});

Deno.test("a refused accept is said once, and tried again", async () => {
  const errors = [
    new Deno.errors.NotConnected("os error 107"),
    ...Array.from({ length: 3 }, () => new Error("Too many open files (os error 24)")),
  ];
  const after = Promise.withResolvers<Deno.TcpConn>();
  const accepts = [after.promise, new Promise<never>(() => {})];
  await using bench = new Bench({
    accept: () => {
      const error = errors.shift();
      return error === undefined ? accepts.shift() ?? after.promise : Promise.reject(error);
    },
  });
  await until("all are tried", async () => {
    bench.clock.advance(250);
    await new Promise((resolve) => setImmediate(resolve));
    return errors.length === 0;
  });
  assert.deepEqual(bench.log, [
    "status page: cannot accept readers: Too many open files (os error 24)",
  ]);
  let text: string | undefined;
  const answer = answerOf(fetch(bench.url)).then((answer) => text = answer.text);
  after.resolve(await bench.listener.accept());
  await until("the answer", () => {
    bench.clock.advance(250);
    return text === "hello";
  });
  await answer;
});

Deno.test("what is no HTTP, and a host that is none, are answered with 400", async () => {
  await using bench = await StatusBench.open();
  for (const host of ["[::1", "a b", "127.0.0.1:99999"]) {
    assert.equal(await getAs(bench.status.url, host), 400, host);
  }
  await using other = new Bench();
  const conn = await other.connect("SSH-2.0-OpenSSH_9.2\r\n\r\n");
  assert.match(await ended(conn), /^HTTP\/1\.1 400 /);
});

Deno.test("HTTP/2 is not spoken, and told so at once", async () => {
  await using bench = new Bench();
  const settings = "\0\0\0\x04\0\0\0\0\0";
  const conn = await bench.connect(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${settings}`);
  assert.match(await ended(conn), /^HTTP\/1\.1 400 /);
  assert.equal(bench.answers, 0);
});

Deno.test("wrong tokens are looked at no faster than one a second", async () => {
  await using bench = await StatusBench.open({ token: TOKEN });
  const { clock } = bench;
  const bearer = (token: string) => bench.get("/status", { authorization: `Bearer ${token}` });
  const form = async (token: string) => (await answerOf(fetch(new URL("/login", bench.status.url), {
    method: "POST",
    body: new URLSearchParams({ token }),
    redirect: "manual",
  })));
  const { headers } = await form(TOKEN);
  const cookie = headers.get("set-cookie")?.split(";")[0] ?? "";
  for (let i = 0; i < 5; i++) {
    assert.equal((await bearer(`wrong ${i}`)).status, 401);
    assert.equal((await form(`wrong ${i}`)).status, 401);
  }
  const refused = await bearer("wrong again");
  assert.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "1"]);
  assert.equal((await form("wrong again")).status, 429);
  assert.equal((await bearer(TOKEN)).status, 429, "or it would be told from wrong ones");
  assert.equal((await bench.get("/status", { cookie })).status, 200, "whoever is logged in stays");
  clock.advance(1000);
  assert.equal((await bearer(TOKEN)).status, 200);
  assert.equal((await bearer(TOKEN)).status, 200, "a right one costs nothing");
  assert.equal((await bearer("wrong")).status, 401);
  assert.equal((await bearer("wrong")).status, 429);
});

Deno.test("wrong tokens are counted by IPv4 address and IPv6 network, on a socket for both, too", () => {
  const peerOf = (hostname: string) => {
    const remoteAddr = { transport: "tcp", hostname, port: 1 } as const;
    const connection = new ReaderConnection({ remoteAddr, close() {} } as Deno.Conn, clock);
    connection.destroy();
    return connection.peer;
  };
  const clock = new ManualClock();
  assert.equal(peerOf("192.0.2.1"), "192.0.2.1");
  assert.equal(peerOf("::ffff:192.0.2.1"), "192.0.2.1");
  assert.equal(peerOf("::ffff:c000:202"), "192.0.2.2");
  assert.equal(peerOf("2001:db8:1:2:3:4:5:6"), peerOf("2001:db8:1:2::7"));
  assert.notEqual(peerOf("2001:db8:1:2::7"), peerOf("2001:db8:1:3::7"));
  assert.equal(peerOf("fe80::1%eth0"), peerOf("fe80::2%eth1"));
});

Deno.test("labels of /metrics are escaped as the format says", async () => {
  await using bench = await StatusBench.open();
  const reading: Reading = {
    stats: bench.sender.stats(),
    ...{ state: "idle", verdict: "healthy", tone: "idle", wallMs: 0, fileBytes: undefined },
  };
  const text = prometheusText([{ reading, labels: { remote: 'a"b\\c\nd' } }]);
  assert.match(text, /^sendq_queue_packets\{remote="a\\"b\\\\c\\nd"\} 0$/m);
  assert.equal(
    text.split("\n").filter((line) => line.startsWith("# TYPE")).length <= FIGURES.length,
    true,
  );
  assert(text.endsWith("\n"));
});

Deno.test("a reader whose accept is over only as the listener is closed is let go", async () => {
  const accept = Promise.withResolvers<Deno.TcpConn>();
  const bench = new Bench({ accept: () => accept.promise });
  const reader = await bench.connect("GET / HTTP/1.1\r\n\r\n");
  const accepted = await bench.listener.accept();
  const closing = bench.server.close(1000);
  accept.resolve(accepted);
  await closing;
  const read = reader.read(new Uint8Array(100)).catch(() => null);
  assert.equal(await within("it is closed", read), null);
  assert.equal(bench.answers, 0);
  reader.close();
});
