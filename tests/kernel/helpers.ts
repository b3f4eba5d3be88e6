import { duplicateDescriptor } from "../../src/kernel/descriptor.ts";
import { closeDescriptor, getSocketInt, libcCandidates } from "../../src/kernel/libc.ts";
import { resetConnection } from "../../src/kernel/tcp_wire.ts";

/** The server's half of a test. */
export interface Peer extends Disposable {
  readonly port: number;
  accept(): Promise<Deno.TcpConn>;
}

/** Listens on a free port of a loopback address. */
export function listen(hostname = "127.0.0.1"): Peer {
  const listener = Deno.listen({ hostname, port: 0 });
  return {
    port: listener.addr.port,
    accept: () => listener.accept(),
    [Symbol.dispose]: () => listener.close(),
  };
}

const SOL_SOCKET = 1;
const SO_DOMAIN = 39;
/** AF_INET, AF_INET6, AF_NETLINK. */
const OUR_DOMAINS: readonly (number | undefined)[] = [2, 10, 16];

/**
 * How many descriptors of this process are sockets of the kinds that the kernel
 * layer opens. Deno opens files and AF_UNIX sockets at times of its own.
 */
export function openSockets(): number {
  let open = 0;
  for (let fd = 0; fd < 4096; fd++) {
    if (OUR_DOMAINS.includes(getSocketInt(fd, SOL_SOCKET, SO_DOMAIN))) open++;
  }
  return open;
}

/** The C library's path that this test run was granted. */
export function grantedLibc(): string | undefined {
  return libcCandidates().find(({ path }) =>
    Deno.permissions.querySync({ name: "ffi", path }).state === "granted"
  )?.path;
}

/** A signal that ends whatever a broken test leaves hanging. */
export function patience(): AbortSignal {
  return AbortSignal.timeout(20_000);
}

/** A test that is ignored where it cannot run; its printed name says why. */
export function testUnless(
  obstacle: string | undefined,
  name: string,
  fn: () => Promise<void>,
): void {
  Deno.test({
    name: obstacle === undefined ? name : `${name} [${obstacle}]`,
    ignore: obstacle !== undefined,
    fn,
  });
}

/** Why no Deno child process can be started; `undefined`: it can. */
export function noChildren(): string | undefined {
  const command = Deno.execPath();
  const { state } = Deno.permissions.querySync({ name: "run", command });
  return state === "granted" ? undefined : `needs --allow-run=${command}`;
}

/** Why there are no filters here; `undefined`: there are. */
export async function seccompObstacle(): Promise<string | undefined> {
  const children = noChildren();
  if (children !== undefined) return children;
  const script = new URL("./seccomp.ts", import.meta.url).href;
  const code = `import { refuseCalls } from ${JSON.stringify(script)};
    refuseCalls(${JSON.stringify(grantedLibc())}, []);`;
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-lock", code],
    stdin: "null",
    stderr: "null",
  }).output();
  return success ? undefined : "no seccomp filters here";
}

/**
 * Resets a connection from the server's side, like a killed server's kernel
 * does. `conn.close()` alone would send a FIN first, whatever is unread.
 */
export function resetBy(conn: Deno.TcpConn | Deno.TlsConn): void {
  const found = duplicateDescriptor(conn, 0);
  if (found.kind !== "found" || !resetConnection(found.fd)) throw new Error("not reset");
  closeDescriptor(found.fd);
  conn.close();
}
