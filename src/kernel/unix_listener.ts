/**
 * Listening on a Unix socket whose last owner may have died without removing it.
 *
 * @module
 */

import { listenFailure } from "./listen.ts";

/**
 * Listens on a path. A socket that nobody listens on any more, left there by a
 * process that was killed, is replaced; anything else there is left alone.
 *
 * @param path Where. The directory's permissions say who may connect, and the socket's own.
 * @param mode The socket's own, for example `0o660`; as the umask has it unless given. It
 *   is set right after the socket is made, by a call of its own: where not even that moment
 *   may be open, the directory has to be closed.
 * @throws {Deno.errors.AddrInUse} Somebody listens there, or it is no socket.
 * @throws {ListenError} It cannot listen there: its directory does not exist, for example.
 */
export async function listenUnix(path: string, mode?: number): Promise<Deno.UnixListener> {
  const listen = () => {
    const listener = Deno.listen({ transport: "unix", path });
    if (mode !== undefined) Deno.chmodSync(path, mode);
    return listener;
  };
  try {
    try {
      return listen();
    } catch (error) {
      const isThere = error instanceof Deno.errors.AddrInUse;
      if (!isThere || !Deno.lstatSync(path).isSocket || await isAnswered(path)) throw error;
    }
    Deno.removeSync(path);
    return listen();
  } catch (error) {
    throw listenFailure(error, `unix:${path}`);
  }
}

async function isAnswered(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}
