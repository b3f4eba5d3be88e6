/**
 * A recording server, over TCP or a Unix socket: it writes down every byte it reads, and misbehaves on
 * command. It is a program of its own and shares nothing with the code under
 * test; {@linkcode https://man7.org/linux/man-pages/man2/recv.2.html recv(2)}
 * is called for exactly what it should read and not for a byte more.
 *
 * ```sh
 * deno run -A lab/recorder.ts --record FILE [--framing lines|length32]
 *   [--address 127.0.0.1] [--port 0 | --unix PATH] [--receive-buffer BYTES] [--tls CERT,KEY]
 *   [COMMAND…]
 * ```
 *
 * With `--tls` it speaks TLS, by OpenSSL, with what lies in these files. Then `reply` and the
 * commands that wait for unread bytes mean nothing.
 *
 * It prints `{"listening":PORT}`, then takes commands, one a line, from standard
 * input, and prints `{"done":COMMAND}` once each is carried out. It ends when
 * standard input ends. Commands as arguments are carried out before it listens.
 *
 * | command | effect |
 * |---|---|
 * | `stop-reading` | reads nothing more, from now on; accepts go on |
 * | `resume` | reads again, as fast as it can |
 * | `read-rate N` | reads N bytes a second over all connections |
 * | `close` | reads what has arrived, then close() of every connection: FIN |
 * | `close-unread` | stops reading, waits for unread bytes, then close() of every connection: the kernel sends RST; reads what comes after |
 * | `await-unread` | is done once a connection has bytes that were not read: after `stop-reading` |
 * | `reset` | SO_LINGER {1, 0} and close() of every connection: RST |
 * | `half-close` | shutdown(SHUT_WR) of every connection: FIN, but reads on |
 * | `accept-delay N` | leaves each new connection N ms in the kernel's queue |
 * | `reply on`, `reply off` | answers `+` and a newline to whatever it reads (off at first) |
 * | `listen off`, `listen on` | closes the listener (connections are refused), opens it again |
 *
 * What it read is in the record file before it reads on: a kill -9 takes
 * nothing of it (a crash of the whole machine may).
 *
 * @module
 */

import { parseArgs } from "node:util";
import { checked, type Libc, openLibc, Poller } from "./libc.ts";
import { type ConnectionTls, ServerTls } from "./tls.ts";
import { ENTRY_HEADER_BYTES, EntryKind, type Framing, writeEntryHeader } from "./record.ts";

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK_CLOEXEC = 0x800 | 0x80000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_RCVBUF = 8;
const SO_LINGER = 13;
const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const TCP_STATE_CLOSE = 7;
const SHUT_WR = 1;
const FIONREAD = 0x541B;
const MSG_NOSIGNAL = 0x4000;
const BACKLOG = 128;
const READ_BYTES = 256 * 1024;
const STDIN_FD = 0;
const IDLE_WAIT_MS = 1000;

interface Connection {
  readonly fd: number;
  readonly number: number;
  readonly tls: ConnectionTls | undefined;
}

interface Options {
  readonly record: string;
  readonly framing: Framing;
  readonly address: string;
  readonly port: number;
  readonly unix: string | undefined;
  readonly receiveBufferBytes: number | undefined;
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
}

class Recorder {
  #libc: Libc = openLibc();
  #poller = new Poller(this.#libc);
  #file: Deno.FsFile;
  #entry = new Uint8Array(ENTRY_HEADER_BYTES + READ_BYTES);
  #body = this.#entry.subarray(ENTRY_HEADER_BYTES);
  #options: Options;
  #tls: ServerTls | undefined;
  #port: number;
  #listener: number | undefined;
  #connections: Connection[] = [];
  #accepted = 0;
  #acceptDelayMs = 0;
  #acceptAtMs: number | undefined;
  #replies = false;
  /** Bytes a second; 0 is stopped. */
  #rate = Infinity;
  #allowance = 0;
  #allowanceAtMs = performance.now();
  /** The command that is carried out once there are unread bytes. */
  #waitsForUnread: "close-unread" | "await-unread" | undefined;

  constructor(options: Options) {
    this.#options = options;
    this.#port = options.port;
    this.#tls = options.tls && new ServerTls(options.tls);
    this.#file = Deno.openSync(options.record, { createNew: true, write: true });
    this.#note(EntryKind.START, 0, options.framing);
  }

  listen(): number {
    const libc = this.#libc;
    const { receiveBufferBytes, address, unix } = this.#options;
    const family = unix === undefined ? AF_INET : AF_UNIX;
    const fd = checked("socket()", libc.socket(family, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0));
    checked("SO_REUSEADDR", libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, int32s(1), 4));
    if (receiveBufferBytes !== undefined) {
      checked(
        "SO_RCVBUF",
        libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, int32s(receiveBufferBytes), 4),
      );
    }
    const name = unix === undefined ? internetName(address, this.#port) : unixName(unix);
    const where = unix ?? `${address}:${this.#port}`;
    checked(`bind() to ${where}`, libc.bind(fd, name, name.length));
    checked("listen()", libc.listen(fd, BACKLOG));
    if (unix === undefined) {
      checked("getsockname()", libc.getsockname(fd, name, int32s(name.length)));
      this.#port = new DataView(name.buffer).getUint16(2);
    }
    this.#listener = fd;
    return this.#port;
  }

  /** Carries out one command; false when it will be done later. */
  command(line: string): boolean {
    const [verb, argument = ""] = line.split(" ");
    switch (verb) {
      case "stop-reading":
        this.#setRate(0);
        return true;
      case "resume":
        this.#setRate(Infinity);
        return true;
      case "read-rate":
        this.#setRate(positive(line, argument));
        return true;
      case "close":
        for (const connection of [...this.#connections]) {
          while (this.#unreadBytes(connection) > 0 && this.#read(connection, READ_BYTES));
          if (this.#connections.includes(connection)) this.#end(connection, EntryKind.CLOSED);
        }
        return true;
      case "close-unread":
        this.#setRate(0);
        this.#waitsForUnread = verb;
        return false;
      case "await-unread":
        this.#waitsForUnread = verb;
        return false;
      case "reset":
        for (const connection of [...this.#connections]) {
          const linger = int32s(1, 0);
          checked(
            "SO_LINGER",
            this.#libc.setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, linger, 8),
          );
          this.#end(connection, EntryKind.CLOSED);
        }
        return true;
      case "half-close":
        // Fails on a connection that has died meanwhile, which the next read tells.
        for (const { fd } of this.#connections) this.#libc.shutdown(fd, SHUT_WR);
        return true;
      case "accept-delay":
        this.#acceptDelayMs = positive(line, argument);
        return true;
      case "reply":
        this.#replies = onOff(line, argument);
        return true;
      case "listen":
        if (onOff(line, argument)) {
          if (this.#listener === undefined) this.listen();
        } else if (this.#listener !== undefined) {
          checked("close()", this.#libc.close(this.#listener));
          this.#listener = undefined;
        }
        return true;
      default:
        throw new RangeError(`unknown command: ${line}`);
    }
  }

  /** Serves until standard input ends. */
  serve(): void {
    const input = new Uint8Array(4096);
    let commands = "";
    while (true) {
      const nowMs = performance.now();
      const share = this.#readableBytes(nowMs);
      const acceptInMs = this.#acceptAtMs === undefined ? 0 : this.#acceptAtMs - nowMs;
      const reads = share > 0 ? this.#connections : [];
      const accepts = this.#listener === undefined || acceptInMs > 0 ? [] : [this.#listener];
      const ready = this.#poller.wait(
        [STDIN_FD, ...accepts, ...reads.map(({ fd }) => fd)],
        reads.some(({ tls }) => tls?.hasMore) ? 0 : this.#waitMs(acceptInMs),
      );
      if (ready[0]) {
        const n = Deno.stdin.readSync(input);
        if (n === null) return;
        commands += new TextDecoder().decode(input.subarray(0, n));
        const lines = commands.split("\n");
        commands = lines.pop() ?? "";
        for (const line of lines) if (this.command(line)) say({ done: line });
        continue; // A command may have changed everything that was polled.
      }
      if (accepts.length > 0 && ready[1]) this.#accept(performance.now());
      let left = share;
      reads.slice().forEach((connection, i) => {
        const isReady = ready[1 + accepts.length + i] || connection.tls?.hasMore;
        if (left > 0 && isReady) left -= this.#read(connection, left);
      });
      if (this.#waitsForUnread !== undefined) this.#lookForUnread(this.#waitsForUnread);
    }
  }

  #setRate(bytesPerSecond: number): void {
    this.#rate = bytesPerSecond;
    this.#allowance = 0;
    this.#allowanceAtMs = performance.now();
  }

  /** How much may be read now, in steps of a twentieth of a second's worth. */
  #readableBytes(nowMs: number): number {
    if (this.#rate === Infinity) return READ_BYTES;
    const grown = this.#allowance + this.#rate * (nowMs - this.#allowanceAtMs) / 1000;
    this.#allowance = Math.min(grown, this.#rate / 5 + 1);
    this.#allowanceAtMs = nowMs;
    return this.#allowance >= this.#stepBytes()
      ? Math.min(READ_BYTES, Math.floor(this.#allowance))
      : 0;
  }

  #stepBytes(): number {
    return Math.max(1, Math.min(READ_BYTES, this.#rate / 20));
  }

  #waitMs(acceptInMs: number): number {
    let waitMs = IDLE_WAIT_MS;
    if (acceptInMs > 0) waitMs = Math.min(waitMs, acceptInMs);
    if (this.#waitsForUnread !== undefined) waitMs = Math.min(waitMs, 2);
    if (this.#rate > 0 && this.#rate !== Infinity && this.#allowance < this.#stepBytes()) {
      waitMs = Math.min(waitMs, (this.#stepBytes() - this.#allowance) / this.#rate * 1000);
    }
    return waitMs;
  }

  #accept(nowMs: number): void {
    if (this.#listener === undefined) return;
    if (this.#acceptDelayMs > 0 && this.#acceptAtMs === undefined) {
      this.#acceptAtMs = nowMs + this.#acceptDelayMs;
      return;
    }
    this.#acceptAtMs = undefined;
    const name = new Uint8Array(16);
    const fd = this.#libc.accept4(
      this.#listener,
      name,
      int32s(name.length),
      SOCK_NONBLOCK_CLOEXEC,
    );
    if (fd < 0) return; // The peer was gone before its turn came.
    const connection = { fd, number: ++this.#accepted, tls: this.#tls?.accept(fd) };
    this.#connections.push(connection);
    const port = new DataView(name.buffer).getUint16(2);
    const client = this.#options.unix === undefined
      ? `${name.subarray(4, 8).join(".")}:${port}`
      : "unnamed";
    this.#note(EntryKind.OPEN, connection.number, client);
  }

  /** Reads once and records it. Returns how many bytes. */
  #read(connection: Connection, maxBytes: number): number {
    const most = Math.min(maxBytes, READ_BYTES);
    const n = connection.tls === undefined
      ? Number(this.#libc.recv(connection.fd, this.#body, BigInt(most), 0))
      : connection.tls.read(this.#body, most) ?? -1;
    if (n > 0) {
      this.#write(EntryKind.DATA, connection.number, n);
      if (this.#rate !== Infinity) this.#allowance -= n;
      if (this.#replies) {
        this.#libc.send(connection.fd, new Uint8Array([0x2B, 0x0A]), 2n, MSG_NOSIGNAL);
      }
      return n;
    }
    // A failed recv() is either "nothing there" or the connection's death; its state tells. A
    // Unix socket has none: its death is told once, and the next recv() finds the end.
    const isDead = this.#options.unix === undefined &&
      this.#state(connection) === TCP_STATE_CLOSE;
    if (n === 0 && !(isDead && connection.tls)) this.#end(connection, EntryKind.FIN);
    else if (isDead) this.#end(connection, EntryKind.RESET);
    return 0;
  }

  #lookForUnread(command: "close-unread" | "await-unread"): void {
    if (!this.#connections.some((connection) => this.#unreadBytes(connection) > 0)) return;
    this.#waitsForUnread = undefined;
    if (command === "close-unread") {
      for (const connection of [...this.#connections]) this.#end(connection, EntryKind.CLOSED);
      this.#setRate(Infinity);
    }
    say({ done: command });
  }

  #unreadBytes({ fd }: Connection): number {
    const bytes = new Int32Array(1);
    checked("FIONREAD", this.#libc.ioctl(fd, BigInt(FIONREAD), new Uint8Array(bytes.buffer)));
    return bytes[0] ?? 0;
  }

  #state({ fd }: Connection): number | undefined {
    const info = new Uint8Array(104);
    checked(
      "TCP_INFO",
      this.#libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, int32s(info.length)),
    );
    return info[0];
  }

  #end(connection: Connection, kind: number): void {
    this.#note(kind, connection.number, "");
    connection.tls?.free();
    checked("close()", this.#libc.close(connection.fd));
    this.#connections = this.#connections.filter((other) => other !== connection);
  }

  #note(kind: number, connection: number, text: string): void {
    this.#write(kind, connection, new TextEncoder().encodeInto(text, this.#body).written);
  }

  #write(kind: number, connection: number, bodyBytes: number): void {
    const timeMs = performance.timeOrigin + performance.now();
    writeEntryHeader(this.#entry, kind, connection, timeMs, bodyBytes);
    const entry = this.#entry.subarray(0, ENTRY_HEADER_BYTES + bodyBytes);
    for (let at = 0; at < entry.length;) at += this.#file.writeSync(entry.subarray(at));
  }
}

/** `struct sockaddr_in`. */
function internetName(address: string, port: number): Uint8Array<ArrayBuffer> {
  const name = new Uint8Array(16);
  new DataView(name.buffer).setUint16(0, AF_INET, true);
  new DataView(name.buffer).setUint16(2, port);
  name.set(address.split(".").map(Number), 4);
  return name;
}

/** `struct sockaddr_un`; what another life of the server has left there goes away. */
function unixName(path: string): Uint8Array<ArrayBuffer> {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const bytes = new TextEncoder().encode(path);
  const name = new Uint8Array(2 + bytes.length + 1);
  new DataView(name.buffer).setUint16(0, AF_UNIX, true);
  name.set(bytes, 2);
  return name;
}

function int32s(...values: number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new Int32Array(values).buffer);
}

function positive(line: string, argument: string): number {
  const value = Number(argument);
  if (!(value > 0)) throw new RangeError(`needs a number above 0: ${line}`);
  return value;
}

function onOff(line: string, argument: string): boolean {
  if (argument !== "on" && argument !== "off") throw new RangeError(`needs on or off: ${line}`);
  return argument === "on";
}

function say(message: { listening: number } | { done: string }): void {
  const line = new TextEncoder().encode(JSON.stringify(message) + "\n");
  for (let at = 0; at < line.length;) at += Deno.stdout.writeSync(line.subarray(at));
}

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      record: { type: "string" },
      framing: { type: "string", default: "lines" },
      address: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "0" },
      unix: { type: "string" },
      "receive-buffer": { type: "string" },
      tls: { type: "string" },
    },
  });
  const { record, framing, address, port, unix, "receive-buffer": receiveBuffer } = values;
  if (record === undefined) throw new RangeError("--record FILE is missing");
  if (framing !== "lines" && framing !== "length32") {
    throw new RangeError(`--framing must be lines or length32, not ${framing}`);
  }
  const [cert = "", key = ""] = values.tls?.split(",") ?? [];
  const recorder = new Recorder({
    record,
    framing,
    address,
    port: Number(port),
    unix,
    receiveBufferBytes: receiveBuffer === undefined ? undefined : Number(receiveBuffer),
    tls: values.tls === undefined ? undefined : { cert, key },
  });
  for (const command of positionals) recorder.command(command);
  say({ listening: recorder.listen() });
  recorder.serve();
}

if (import.meta.main) main();
