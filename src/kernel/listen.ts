/** Listening that says where it cannot, and what to do: the system's words have neither. */

import { ListenError, messageOf } from "../base/errors.ts";
import { isOutOfDescriptors, OUT_OF_DESCRIPTORS } from "./wire_error.ts";

/**
 * Listens.
 *
 * @param address What messages call the place.
 * @param listen Does it.
 * @throws {Deno.errors.AddrInUse} Somebody listens there already.
 * @throws {Deno.errors.NotCapable} The permission is missing.
 * @throws {ListenError} It cannot be listened there for another reason.
 */
export function listenAt<Listener>(address: string, listen: () => Listener): Listener {
  try {
    return listen();
  } catch (error) {
    throw listenFailure(error, address);
  }
}

/** What `listenAt` throws. */
export function listenFailure(error: unknown, address: string): unknown {
  if (error instanceof Deno.errors.NotCapable) return error;
  if (error instanceof Deno.errors.AddrInUse) {
    const other = address.startsWith("unix:") ? ", or it is no socket" : "";
    return new Deno.errors.AddrInUse(
      `${address} is in use already: another program listens there${other}. Stop it, or choose ` +
        "another address.",
      { cause: error },
    );
  }
  return new ListenError(address, reasonOf(error, address), { cause: error });
}

/** Whether this host does not have the address, also where that is the cause: it may come yet. */
export function isNoAddressOfOurs(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error instanceof Deno.errors.AddrNotAvailable || isNoAddressOfOurs(error.cause);
}

function reasonOf(error: unknown, address: string): string {
  if (isNoAddressOfOurs(error)) {
    return address.includes("[")
      ? "no interface of this host has that address, or it may not be used: ip address shows it " +
        "as tentative until it is known to be free, and as dadfailed where it is taken. Give one " +
        "that can be used, or [::] for all"
      : "no interface of this host has that address. Give one that it has, or 0.0.0.0 for all";
  }
  if (error instanceof Deno.errors.NotFound) {
    return "its directory does not exist. Create the directory first";
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return "this user may not. A port below 1024 needs CAP_NET_BIND_SERVICE, a Unix socket a " +
      "directory in which this user may write";
  }
  if (isOutOfDescriptors(error)) return OUT_OF_DESCRIPTORS;
  const words = messageOf(error);
  // Deno has no class of its own for it.
  return /lookup/.test(words)
    ? `${words.replace(/^.*: /, "")}. Give an address of this host, or a name that it knows`
    : words;
}

/** Deno's names for what happened to a client before it could be accepted. */
const OF_ONE_CLIENT: readonly string[] = ["NotConnected", "ConnectionReset", "ConnectionAborted"];

/** Whether `accept()` failed for one client's sake, so that the next may be well. */
export function isOfOneClient(error: unknown): boolean {
  return error instanceof Error && OF_ONE_CLIENT.includes(error.name);
}
