/**
 * A TLS server whose program reads exactly as much as it is told to, so that it is known at
 * each moment what it has read: Python's ssl, which is OpenSSL.
 */

import { ScriptedServer } from "../../support/scripted_server.ts";
import { until } from "../../support/until.ts";
import { fileOf } from "../helpers.ts";
import { isListening, lacks } from "../openssl.ts";

/** Why no such server can be started; `undefined`: it can. */
export function noPython(): string | undefined {
  return lacks("python3", "--version");
}

/**
 * Takes the latest connection at each command: `read N` reads so many bytes, or what is
 * there, and says how many it has read of this connection; `write` sends a byte. Everything
 * that it reads lies in the file before it says so.
 */
const PROGRAM = `
import socket, ssl, sys
port, cert, key, out = int(sys.argv[1]), sys.argv[2], sys.argv[3], open(sys.argv[4], "ab", 0)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(16)
listener.setblocking(False)
connection, total = None, 0
def newest():
    global connection, total
    while True:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return
        accepted.settimeout(30)
        try:
            connection, total = context.wrap_socket(accepted, server_side=True), 0
            connection.setblocking(False)
        except (OSError, ssl.SSLError):
            pass
def read(most):
    global connection, total
    while most > 0 and connection is not None:
        try:
            part = connection.recv(min(most, 65536))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (OSError, ssl.SSLError):
            part = b""
        if not part:
            connection = None
            return
        out.write(part)
        total += len(part)
        most -= len(part)
for line in sys.stdin:
    newest()
    command, *rest = line.split()
    if command == "read":
        read(int(rest[0]))
    elif connection is not None:
        connection.send(b"!")
    print(total, flush=True)
`;

/** A server that is killed at the end. */
export class PacedServer implements AsyncDisposable {
  readonly port: number;
  readonly #child: Deno.ChildProcess;
  readonly #commands: WritableStreamDefaultWriter<Uint8Array>;
  readonly #replies: ReadableStreamDefaultReader<string>;
  #unread = "";

  private constructor(port: number, child: Deno.ChildProcess) {
    this.port = port;
    this.#child = child;
    this.#commands = child.stdin.getWriter();
    this.#replies = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /**
   * @param out The file to which it writes what it reads, behind what is there.
   * @param port Where it listens.
   */
  static async start(out: string, port = ScriptedServer.freePort()): Promise<PacedServer> {
    const child = new Deno.Command("python3", {
      args: [
        ...["-c", PROGRAM, String(port), fileOf("server.pem"), fileOf("server.key"), out],
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const server = new PacedServer(port, child);
    await until("python listens", () => isListening(port));
    return server;
  }

  /**
   * Its program reads.
   *
   * @param most So many bytes at the most; less where there are none.
   * @returns How many it has read of the latest connection.
   */
  read(most: number): Promise<number> {
    return this.#ask(`read ${most}`);
  }

  /** Its program sends a byte. */
  write(): Promise<number> {
    return this.#ask("write");
  }

  /** Until the promise is settled, connections are accepted, and nothing else is read. */
  async accepting<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    promise.then(() => settled = true, () => settled = true);
    await until("it is settled", async () => {
      // What is not data of the session is read with it: requests for a new key.
      if (!settled) await this.read(1);
      return settled;
    });
    return await promise;
  }

  /** Ends it by a signal, and waits for that. */
  async kill(signal: Deno.Signal = "SIGKILL"): Promise<void> {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended by itself.
    }
    await this.#child.status;
    await this.#commands.abort().catch(() => {});
    await this.#replies.cancel().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #ask(command: string): Promise<number> {
    await this.#commands.write(new TextEncoder().encode(`${command}\n`));
    for (;;) {
      const end = this.#unread.indexOf("\n");
      if (end >= 0) {
        const reply = Number(this.#unread.slice(0, end));
        this.#unread = this.#unread.slice(end + 1);
        return reply;
      }
      const { value, done } = await this.#replies.read();
      if (done) throw new Error("the server has ended");
      this.#unread += value;
    }
  }
}
