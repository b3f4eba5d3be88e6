/**
 * Proxies as people run them.
 *
 * @module
 */

import { killWithDescendants } from "../../lab/descendants.ts";
import type { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { grantedLibc } from "../kernel/helpers.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { isListening, lacks } from "../tls/openssl.ts";

const USER = "sendq";
/** With what has a meaning in URLs. */
const PASSWORD = "p@ss/w:rd%";

/** A program that is a proxy. */
export interface ProxyProgram {
  readonly name: string;
  readonly scheme: "socks5" | "http";
  /** What it wants to know beside the user. */
  readonly password?: string;
  readonly command: string;
  /** Why it cannot run. */
  readonly obstacle: string | undefined;
  /** Its arguments; writes what else it needs. */
  readonly prepare: (dir: TempDir, port: number) => readonly string[];
}

const SQUID_LOGIN = "/usr/lib/squid/basic_ncsa_auth";

/** Every one that is known here. */
export const PROXIES: readonly ProxyProgram[] = [
  {
    name: "microsocks",
    scheme: "socks5",
    password: PASSWORD,
    command: "microsocks",
    obstacle: lacks("microsocks", "-h"),
    prepare: (_dir, port) => [
      ...["-i", "127.0.0.1", "-p", String(port), "-u", USER, "-P", PASSWORD],
    ],
  },
  {
    name: "dante",
    scheme: "socks5",
    // It knows the users of the system alone.
    command: "danted",
    obstacle: lacks("danted", "-v"),
    prepare(dir, port) {
      Deno.writeTextFileSync(
        dir.file("danted.conf"),
        `logoutput: /dev/null
internal: 127.0.0.1 port = ${port}
external: lo
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks block { from: 0.0.0.0/0 to: 127.0.0.66/32 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
`,
      );
      return ["-f", dir.file("danted.conf"), "-p", dir.file("danted.pid")];
    },
  },
  {
    name: "tinyproxy",
    scheme: "http",
    // Others have no place in its settings.
    password: "pass-word.1",
    command: "tinyproxy",
    obstacle: lacks("tinyproxy", "-v"),
    prepare(dir, port) {
      Deno.writeTextFileSync(
        dir.file("tinyproxy.conf"),
        `Listen 127.0.0.1
Port ${port}
Timeout 600
PidFile "${dir.file("tinyproxy.pid")}"
BasicAuth ${USER} pass-word.1
`,
      );
      return ["-d", "-c", dir.file("tinyproxy.conf")];
    },
  },
  {
    name: "squid",
    scheme: "http",
    password: PASSWORD,
    command: "squid",
    obstacle: lacks("squid", "-v") ?? lacks(SQUID_LOGIN, "-h") ?? lacks("openssl", "version"),
    prepare(dir, port) {
      const hash = new Deno.Command("openssl", { args: ["passwd", "-apr1", PASSWORD] })
        .outputSync().stdout;
      Deno.writeTextFileSync(
        dir.file("users"),
        `${USER}:${new TextDecoder().decode(hash)}`,
      );
      // It gives up the rights of root.
      Deno.chmodSync(dir.path, 0o755);
      Deno.writeTextFileSync(
        dir.file("squid.conf"),
        `http_port 127.0.0.1:${port}
auth_param basic program ${SQUID_LOGIN} ${dir.file("users")}
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
acl away dst 127.0.0.66
http_access deny away
http_access allow known
http_access deny all
cache deny all
cache_mem 1 MB
access_log none
cache_log /dev/null
pid_filename none
shutdown_lifetime 0 seconds
`,
      );
      return ["-N", "-f", dir.file("squid.conf")];
    },
  },
];

/** Why no test with these can run; `undefined`: it can. */
export const noKernel: string | undefined = grantedLibc() === undefined
  ? "needs --allow-ffi=<path of the C library>"
  : undefined;

/** One that runs, and is killed at the end. */
export class RunningProxy implements AsyncDisposable {
  readonly port: number = ScriptedServer.freePort();
  readonly #program: ProxyProgram;
  readonly #dir: TempDir;
  #child: Deno.ChildProcess | undefined;

  private constructor(program: ProxyProgram, dir: TempDir) {
    this.#program = program;
    this.#dir = dir;
  }

  /** Starts one; resolves once it listens. */
  static async start(program: ProxyProgram, dir: TempDir): Promise<RunningProxy> {
    const running = new RunningProxy(program, dir);
    await running.startAgain();
    return running;
  }

  /** The same after it was killed. */
  async startAgain(): Promise<void> {
    const { command, prepare, name } = this.#program;
    this.#child = new Deno.Command(command, {
      args: [...prepare(this.#dir, this.port)],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await until(`${name} listens`, () => isListening(this.port));
  }

  /** Its URL, with what it wants to know unless another password is given. */
  url(password = this.#program.password): string {
    const { scheme } = this.#program;
    const credentials = password === undefined ? "" : `${USER}:${encodeURIComponent(password)}@`;
    return `${scheme}://${credentials}127.0.0.1:${this.port}`;
  }

  /** The same without. */
  get plainUrl(): string {
    return `${this.#program.scheme}://127.0.0.1:${this.port}`;
  }

  /** Kills it and what it has started. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    killWithDescendants(child.pid);
    await child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
