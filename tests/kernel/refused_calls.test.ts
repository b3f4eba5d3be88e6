/**
 * Kernels that refuse a call, and sandboxes that pretend: each call that sendq makes,
 * in turn, is refused or does nothing. Whatever happens, nothing may count as
 * delivered that was not; and where it cannot go on, it says which call it lacks.
 */

import assert from "node:assert/strict";
import { connectionsOf } from "../../lab/connections_of.ts";
import type { SocketOptions } from "../../src/kernel/socket_options.ts";
import { grantedLibc, resetBy, seccompObstacle, testUnless } from "./helpers.ts";
import type { Result, Task } from "./refused_child.ts";
import type { Refusal } from "./seccomp.ts";

const PACKETS = 10;
const PACKET_BYTES = 1000;
const EPERM = 1;
const ENOPROTOOPT = 92;
const PRETEND = 0;

interface Case {
  readonly name: string;
  readonly refuse: readonly Omit<Refusal, "errno">[];
  readonly errnos?: readonly number[];
  readonly socket?: SocketOptions;
  /** What is said; without it the packets are delivered. */
  readonly says?: RegExp;
}

const option = (call: "getsockopt" | "setsockopt", level: number, name: number) =>
  ({ call, args: { 1: level, 2: name } }) as const;
const TCP = 6;
const SOCKET = 1;

const cases: readonly Case[] = [
  {
    name: "TCP_INFO",
    refuse: [option("getsockopt", TCP, 11)],
    says: /refuses getsockopt\(TCP_INFO\)|getsockopt\(TCP_INFO\) says that it worked/,
  },
  { name: "SIOCOUTQ", refuse: [{ call: "ioctl", args: { 1: 0x5411 } }], says: /SIOCOUTQ/ },
  { name: "poll", refuse: [{ call: "poll" }], errnos: [EPERM], says: /refuses poll/ },
  { name: "poll", refuse: [{ call: "poll" }], errnos: [PRETEND] },
  {
    name: "F_DUPFD_CLOEXEC",
    refuse: [{ call: "fcntl", args: { 1: 1030 } }],
    says: /F_DUPFD_CLOEXEC/,
  },
  // Deno asks for these, too, and fails first.
  { name: "getpeername", refuse: [{ call: "getpeername" }], says: /cannot connect/ },
  { name: "getsockname", refuse: [{ call: "getsockname" }], says: /cannot connect/ },
  { name: "SO_ERROR", refuse: [option("getsockopt", SOCKET, 4)], errnos: [EPERM], says: /EPERM/ },
  { name: "SO_ERROR", refuse: [option("getsockopt", SOCKET, 4)], errnos: [PRETEND] },
  // Which socket it is.
  { name: "SO_TYPE", refuse: [option("getsockopt", SOCKET, 3)] },
  { name: "SO_DOMAIN", refuse: [option("getsockopt", SOCKET, 39)] },
  { name: "shutdown", refuse: [{ call: "shutdown" }] },
  { name: "SO_LINGER", refuse: [option("setsockopt", SOCKET, 13)] },
  // Deno's writes to TCP: MSG_NOSIGNAL tells them from netlink's.
  {
    name: "sendto",
    refuse: [{ call: "sendto", args: { 3: 0x4000 } }],
    says: /the connection failed/,
  },
  { name: "AF_NETLINK", refuse: [{ call: "socket", args: { 0: 16 } }], errnos: [EPERM] },
  // The reserve is written then.
  { name: "fallocate", refuse: [{ call: "fallocate" }] },
  // Other processes' packets are looked for once a second then.
  { name: "inotify_init1", refuse: [{ call: "inotify_init1" }] },
  { name: "inotify_add_watch", refuse: [{ call: "inotify_add_watch" }] },
  { name: "inotify_rm_watch", refuse: [{ call: "inotify_rm_watch" }] },
  // Reading options back that nobody asked for, and setting our defaults: all at once.
  {
    name: "every option",
    refuse: ([
      [TCP, 1, "TCP_NODELAY"],
      [SOCKET, 9, "SO_KEEPALIVE"],
      [TCP, 4, "TCP_KEEPIDLE"],
      [TCP, 5, "TCP_KEEPINTVL"],
      [TCP, 6, "TCP_KEEPCNT"],
      [TCP, 18, "TCP_USER_TIMEOUT"],
      [TCP, 44, "TCP_RTO_MAX_MS"],
      [SOCKET, 7, "SO_SNDBUF"],
      [TCP, 25, "TCP_NOTSENT_LOWAT"],
      [TCP, 13, "TCP_CONGESTION"],
      [SOCKET, 25, "SO_BINDTODEVICE"],
      [SOCKET, 36, "SO_MARK"],
      [SOCKET, 12, "SO_PRIORITY"],
      [0, 1, "IP_TOS"],
    ] as const).flatMap(([level, number]) => [
      option("getsockopt", level, number),
      option("setsockopt", level, number),
    ]),
    errnos: [EPERM, ENOPROTOOPT, PRETEND],
  },
  // The same where they were asked for.
  ...([
    ["TCP_RTO_MAX_MS", TCP, 44, { rtoMaxMs: 2000 }, /rtoMaxMs = 2000.*Linux 6\.15/],
    ["TCP_USER_TIMEOUT", TCP, 18, { userTimeoutMs: 9000 }, /userTimeoutMs = 9000/],
    ["SO_KEEPALIVE", SOCKET, 9, { keepAlive: {} }, /option keepAlive /],
    ["TCP_KEEPCNT", TCP, 6, { keepAlive: { count: 4 } }, /keepAlive\.count = 4/],
    ["TCP_NODELAY", TCP, 1, { noDelay: true }, /noDelay = true/],
    ["IP_TOS", 0, 1, { tos: 16 }, /tos = 16/],
  ] as const).map(([name, level, number, socket, says]) => ({
    name: `${name}, asked for`,
    refuse: [option("setsockopt", level, number)],
    errnos: [ENOPROTOOPT],
    socket,
    says,
  })),
];

/** Reads everything, or a byte of each connection and resets it. */
class TestServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #serving: Promise<void>;
  readonly #connections = new Map<Deno.TcpConn, Promise<void>>();
  receivedBytes = 0;

  constructor(private readonly resets: boolean) {
    this.#serving = this.#serve();
  }

  get remote(): string {
    return `tcp://127.0.0.1:${this.#listener.addr.port}`;
  }

  async #serve(): Promise<void> {
    for await (const conn of connectionsOf(this.#listener)) {
      this.#connections.set(conn, this.#handle(conn).finally(() => this.#connections.delete(conn)));
    }
  }

  async #handle(conn: Deno.TcpConn): Promise<void> {
    const buffer = new Uint8Array(this.resets ? 1 : 65_536);
    try {
      for (let count; (count = await conn.read(buffer)) !== null;) {
        this.receivedBytes += count;
        if (this.resets) return resetBy(conn);
      }
      conn.close();
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionReset) conn.close();
      else if (!(error instanceof Deno.errors.Interrupted)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#serving;
    for (const [conn, handled] of [...this.#connections]) {
      conn.close();
      await handled;
    }
  }
}

async function send(
  server: TestServer,
  until: Task["until"],
  rest: Partial<Task>,
): Promise<Result> {
  const dir = await Deno.makeTempDir();
  try {
    const task: Task = {
      libc: grantedLibc() ?? "",
      refusals: [],
      remote: server.remote,
      queue: `${dir}/q.db`,
      packets: PACKETS,
      packetBytes: PACKET_BYTES,
      socket: {},
      until,
      ...rest,
    };
    const script = new URL("./refused_child.ts", import.meta.url).href;
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--no-lock", "-A", script, JSON.stringify(task)],
      stdin: "null",
    }).output();
    const text = new TextDecoder().decode(stdout);
    assert.notEqual(text, "", new TextDecoder().decode(stderr));
    return JSON.parse(text);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const obstacle = await seccompObstacle();

for (const { name, refuse, errnos = [EPERM, PRETEND], socket = {}, says } of cases) {
  for (const errno of errnos) {
    const how = errno === PRETEND ? "pretends" : `fails with ${errno}`;
    const what = says === undefined ? "delivers all the same" : "keeps all and says why";
    testUnless(obstacle, `refused calls: ${name} ${how}: ${what}`, async () => {
      const refusals = refuse.map((refusal) => ({ ...refusal, errno }));
      {
        // A reset server has got nothing, whatever its kernel has acknowledged.
        await using server = new TestServer(true);
        const { words, kept } = await send(server, "said", { refusals, socket });
        assert.equal(kept, PACKETS, words.join("\n"));
        assert.match(words[0] ?? "", says ?? /connection given up/);
      }
      if (says !== undefined) return;
      await using server = new TestServer(false);
      const { words, kept } = await send(server, "delivered", { refusals, socket });
      assert.equal(kept, 0, words.join("\n"));
      assert.ok(server.receivedBytes >= PACKETS * PACKET_BYTES);
    });
  }
}
