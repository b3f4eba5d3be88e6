/**
 * The TCP sockets of a host, as its kernel lists them: proc_net(5).
 *
 * @module
 */

import type { Spawn } from "./child.ts";

/** One socket. */
export interface TcpSocket {
  readonly localPort: number;
  /** 0: it has no peer. */
  readonly remotePort: number;
  readonly state: number;
  /** What was written and is not acknowledged: its Send-Q. */
  readonly unackedBytes: number;
  /** What has come and was not read: its Recv-Q. */
  readonly unreadBytes: number;
  /** Whether it waits for the peer's window to open: its timer is that of the probes. */
  readonly probesWindow: boolean;
}

const LISTEN = 0x0A;
const PROBE_TIMER = 4;
/** Nothing more will be read from these, nor will they send anything that was written. */
const FINISHED = [LISTEN, /* TIME_WAIT */ 0x06, /* FIN_WAIT2 */ 0x05, /* CLOSE */ 0x07];

/** Lists them, by a program that runs on the host. */
export async function tcpSockets(spawn: Spawn): Promise<TcpSocket[]> {
  const { stdout } = await spawn("cat", ["/proc/net/tcp", "/proc/net/tcp6"], {
    stdout: "piped",
    stderr: "null",
  }).output();
  const rows = new TextDecoder().decode(stdout).matchAll(
    /: \w+:(\w{4}) \w+:(\w{4}) (\w\w) (\w{8}):(\w{8}) (\w\w):/g,
  );
  return Array.from(rows, ([, ...fields]) => {
    const [localPort = 0, remotePort = 0, state = 0, unackedBytes = 0, unreadBytes = 0, timer] =
      fields.map((field) => parseInt(field, 16));
    const probesWindow = timer === PROBE_TIMER;
    return { localPort, remotePort, state, unackedBytes, unreadBytes, probesWindow };
  });
}

/** Whether a program of the host listens there. */
export async function listens(spawn: Spawn, port: number): Promise<boolean> {
  const sockets = await tcpSockets(spawn);
  return sockets.some(({ localPort, state }) => localPort === port && state === LISTEN);
}

/** Whether every connection of the host has come to its end, and all that came was read. */
export async function isQuiet(spawn: Spawn): Promise<boolean> {
  return (await tcpSockets(spawn)).every(({ state }) => FINISHED.includes(state));
}
