/** Deno's names for what happened to a client before it could be accepted. */
const OF_ONE_CLIENT: readonly string[] = ["NotConnected", "ConnectionReset", "ConnectionAborted"];

/** Whether `accept()` failed for one client's sake, so that the next may be well. */
export function isOfOneClient(error: unknown): boolean {
  return error instanceof Error && OF_ONE_CLIENT.includes(error.name);
}
