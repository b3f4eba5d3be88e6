/** The program that a newcomer writes first; queue and server are its arguments. */
import { Sender } from "../../mod.ts";

const [queue = "", remote = ""] = Deno.args;
await using sender = await Sender.open(queue, remote);
await sender.enqueue("temperature 21.5\n");
