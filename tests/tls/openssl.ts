/**
 * `openssl s_server`, as a program of its own.
 */

import { until } from "../support/until.ts";
import { grantedLibc } from "../kernel/helpers.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { fileOf } from "./helpers.ts";

/** Why no server of OpenSSL can be started; `undefined`: it can. */
export function noOpenssl(): string | undefined {
  if (grantedLibc() === undefined) return "needs --allow-ffi=<path of the C library>";
  return lacks("openssl", "version");
}

/** Why a program cannot be started; `undefined`: it can. */
export function lacks(program: string, argument: string): string | undefined {
  try {
    new Deno.Command(program, { args: [argument], stdout: "null", stderr: "null" }).outputSync();
    return undefined;
  } catch (error) {
    return error instanceof Deno.errors.NotFound
      ? `needs ${program}`
      : `needs --allow-run=${program}`;
  }
}

/** A server that is killed at the end. */
export class OpensslServer implements AsyncDisposable {
  readonly port: number;
  readonly #child: Deno.ChildProcess;
  readonly #output: Promise<void>;
  readonly #decoder = new TextDecoder();
  /** What it has read of all connections. */
  text = "";

  private constructor(port: number, child: Deno.ChildProcess) {
    this.port = port;
    this.#child = child;
    this.#output = (async () => {
      for await (const part of child.stdout) {
        this.text += this.#decoder.decode(part, { stream: true });
      }
    })();
  }

  /**
   * @param shown Which of `certificates/` it shows, and with which key.
   * @param more Arguments.
   * @param port Where to listen, instead of at a free port.
   */
  static async start(
    shown: { readonly certificate: string; readonly keyFile?: string },
    more: readonly string[] = [],
    port = ScriptedServer.freePort(),
  ): Promise<OpensslServer> {
    const { certificate, keyFile = fileOf(`${certificate}.key`) } = shown;
    const child = new Deno.Command("openssl", {
      args: [
        ...["s_server", "-accept", `127.0.0.1:${port}`, "-quiet"],
        ...["-cert", fileOf(`${certificate}.pem`), "-key", keyFile],
        ...more,
      ],
      // At the end of its input it would end.
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const server = new OpensslServer(port, child);
    await until("openssl listens", () => isListening(port));
    return server;
  }

  /** Ends it by a signal, and waits for that. */
  async end(signal: Deno.Signal): Promise<void> {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended by itself.
    }
    await this.#child.status;
    await this.#output;
    await this.#child.stdin.close().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}

/** Whether somebody listens there. Who does not speak TLS is nobody to it. */
export async function isListening(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}
