/**
 * Middle boxes: programs in which the sender's connection ends, and that make one
 * of their own to the server. Whatever they have read, their kernel has
 * acknowledged, whether or not the server ever sees it.
 *
 * They are the programs that people run, with settings as short as they go. What
 * each does while it cannot connect onward is in its settings here, and decides how
 * long a hold has to be.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import type { Spawn } from "./child.ts";
import { killWithDescendants } from "./descendants.ts";
import { listens } from "./sockets.ts";

/** The boxes, by the name that scenarios use. */
export type BoxName =
  | "haproxy"
  | "haproxy-check"
  | "haproxy-shutdown"
  | "nginx"
  | "stunnel"
  | "socat"
  | "microsocks"
  | "dante"
  | "tinyproxy"
  | "squid";

interface Box {
  readonly program: string;
  readonly version: string;
  /** How the sender asks it to connect on; undefined: it does so by itself. */
  readonly via?: "socks5" | "http";
  /** Who brings it on Debian. */
  readonly packages: string;
  /** Files that it reads, by name. */
  readonly files: (server: string, directory: string) => { readonly [name: string]: string };
  readonly args: (directory: string, server: string) => readonly string[];
}

/** Where every box listens. */
export const BOX_PORT = 5000;
/** Between the two ends of a tunnel. */
const TUNNEL_PORT = 5001;
const LISTENING_DEADLINE_MS = 60_000;

/**
 * Four attempts, 1 s each where nobody answers and a second apart where they are
 * refused: after 3 to 4 s it gives up and closes. Meanwhile it reads.
 */
const haproxy = (flags: string): Box => ({
  program: "haproxy",
  version: "-v",
  packages: "haproxy",
  files: (server) => ({
    "haproxy.cfg": `
defaults
  mode tcp
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  retries 3
listen box
  bind :${BOX_PORT}
  server one ${server} ${flags}
`,
  }),
  args: (directory) => ["-db", "-q", "-f", `${directory}/haproxy.cfg`],
});

const BOXES: { readonly [name in BoxName]: Box } = {
  "haproxy": haproxy(""),
  // By default it asks every 2 s, and takes a server for gone after three failures.
  "haproxy-check": haproxy("check"),
  // Without the last two words a connection to a server that has vanished lives on.
  "haproxy-shutdown": haproxy("check inter 1s fall 2 on-marked-down shutdown-sessions"),
  "nginx": {
    program: "nginx",
    version: "-v",
    packages: "nginx libnginx-mod-stream",
    files: (server) => ({
      "nginx.conf": `
${loadingStreams() ?? ""}
daemon off;
master_process off;
user root;
pid nginx.pid;
error_log /dev/null;
events {}
stream {
  server {
    listen ${BOX_PORT};
    proxy_pass ${server};
    proxy_connect_timeout 2s;
  }
}
`,
    }),
    args: (directory) => ["-p", directory, "-c", "nginx.conf", "-e", "/dev/null"],
  },
  // Both ends of the tunnel in one process: in clear to the sender and to the server.
  "stunnel": {
    program: "stunnel",
    version: "-version",
    packages: "stunnel4",
    files: (server, directory) => ({
      "stunnel.conf": `
foreground = yes
pid =
debug = crit
ciphers = PSK
PSKsecrets = ${directory}/psk
TIMEOUTconnect = 2
[near]
client = yes
accept = ${BOX_PORT}
connect = 127.0.0.1:${TUNNEL_PORT}
PSKidentity = lab
[far]
accept = 127.0.0.1:${TUNNEL_PORT}
connect = ${server}
`,
      "psk": `lab:${"0123456789abcdef".repeat(4)}\n`,
    }),
    args: (directory) => [`${directory}/stunnel.conf`],
  },
  "socat": {
    program: "socat",
    version: "-V",
    packages: "socat",
    files: () => ({}),
    args: (_directory, server) => [
      `TCP-LISTEN:${BOX_PORT},reuseaddr,fork`,
      `TCP:${server},connect-timeout=2`,
    ],
  },
  "microsocks": {
    program: "microsocks",
    version: "-h",
    via: "socks5",
    packages: "microsocks",
    files: () => ({}),
    args: () => ["-i", "127.0.0.1", "-p", String(BOX_PORT)],
  },
  "dante": {
    program: "danted",
    version: "-v",
    via: "socks5",
    packages: "dante-server",
    files: () => ({
      "danted.conf": `
logoutput: /dev/null
internal: 127.0.0.1 port = ${BOX_PORT}
external: eth0
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
`,
    }),
    args: (directory) => ["-f", `${directory}/danted.conf`, "-p", `${directory}/danted.pid`],
  },
  "tinyproxy": {
    program: "tinyproxy",
    version: "-v",
    via: "http",
    packages: "tinyproxy",
    files: (_server, directory) => ({
      "tinyproxy.conf": `
Listen 127.0.0.1
Port ${BOX_PORT}
Timeout 600
PidFile "${directory}/tinyproxy.pid"
`,
    }),
    args: (directory) => ["-d", "-c", `${directory}/tinyproxy.conf`],
  },
  // It lets nobody in but its own host, and to port 443 alone, unless told.
  "squid": {
    program: "squid",
    version: "-v",
    via: "http",
    packages: "squid",
    files: () => ({
      "squid.conf": `
http_port 127.0.0.1:${BOX_PORT}
http_access allow all
connect_timeout 2 seconds
cache deny all
cache_mem 1 MB
access_log none
cache_log /dev/null
pid_filename none
`,
    }),
    args: (directory) => ["-N", "-f", `${directory}/squid.conf`],
  },
};

/** The proxy that the sender is given for a box; undefined: the box connects on by itself. */
export function viaOf(name: BoxName): string | undefined {
  const { via } = BOXES[name];
  return via && `${via}://127.0.0.1:${BOX_PORT}`;
}

/** Why a box cannot run here, if it cannot. */
export function missingBox(name: BoxName): string | undefined {
  const { program, version, packages } = BOXES[name];
  try {
    new Deno.Command(program, { args: [version], stdout: "null", stderr: "null" }).outputSync();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return `${program} is not installed; on Debian: apt install ${packages}`;
  }
  if (program === "nginx" && loadingStreams() === undefined) {
    return `nginx has no stream module; on Debian: apt install ${packages}`;
  }
  return undefined;
}

/** What nginx has to be told to proxy TCP: nothing where it is built in; undefined: it cannot. */
function loadingStreams(): string | undefined {
  const { stderr } = new Deno.Command("nginx", { args: ["-V"] }).outputSync();
  const built = new TextDecoder().decode(stderr);
  if (/--with-stream(\s|$)/.test(built)) return "";
  const path = `${/--modules-path=(\S+)/.exec(built)?.[1]}/ngx_stream_module.so`;
  try {
    return Deno.statSync(path).isFile ? `load_module ${path};` : undefined;
  } catch {
    return undefined;
  }
}

/** A running box. */
export class MiddleBox implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #words: Promise<string>;
  #ended = false;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#words = new Response(child.stderr).text();
    child.status.finally(() => this.#ended = true);
  }

  /**
   * Starts one; resolves once it listens at {@linkcode BOX_PORT}.
   *
   * @param name Which.
   * @param options.spawn Where it runs.
   * @param options.directory Where its files may lie.
   * @param options.server Whom it connects to, such as `"198.51.100.2:4000"`.
   * @throws {Error} It ended, or does not listen.
   */
  static async start(
    name: BoxName,
    options: { readonly spawn: Spawn; readonly directory: string; readonly server: string },
  ): Promise<MiddleBox> {
    const { spawn, directory, server } = options;
    const { program, files, args } = BOXES[name];
    for (const [file, text] of Object.entries(files(server, directory))) {
      // stunnel refuses secrets that others may read.
      await Deno.writeTextFile(`${directory}/${file}`, text, { mode: 0o600 });
    }
    const child = spawn(program, args(directory, server), {
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    });
    const box = new MiddleBox(child);
    const deadline = performance.now() + LISTENING_DEADLINE_MS;
    while (!(await listens(spawn, BOX_PORT))) {
      if (box.#ended || performance.now() > deadline) {
        await box[Symbol.asyncDispose]();
        throw new Error(`${program} does not listen: ${(await box.#words).trim()}`);
      }
      await delay(20);
    }
    return box;
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    // Some are several processes, of which one that is left would go on serving.
    killWithDescendants(this.#child.pid);
    await this.#child.status;
    await this.#words;
  }
}
