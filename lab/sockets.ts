/**
 * The TCP sockets of a host, as its kernel lists them: proc_net(5).
 *
 * @module
 */

import type { Spawn } from "./child.ts";

/** One socket. */
export interface TcpSocket {
  readonly localPort: number;
  readonly state: number;
}

const LISTEN = 0x0A;
/** Nothing more will be read from these, nor will they send anything that was written. */
const FINISHED = [LISTEN, /* TIME_WAIT */ 0x06, /* FIN_WAIT2 */ 0x05, /* CLOSE */ 0x07];

/** Lists them, by a program that runs on the host. */
export async function tcpSockets(spawn: Spawn): Promise<TcpSocket[]> {
  const { stdout } = await spawn("cat", ["/proc/net/tcp", "/proc/net/tcp6"], {
    stdout: "piped",
    stderr: "null",
  }).output();
  const rows = new TextDecoder().decode(stdout).matchAll(/: \w+:(\w{4}) \w+:\w{4} (\w\w) /g);
  return [...rows].map(([, port = "", state = ""]) => {
    return { localPort: parseInt(port, 16), state: parseInt(state, 16) };
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
