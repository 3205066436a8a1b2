// Answers every request with the pod that gave it, the path, and how many requests this instance has seen.
import { getEnvironment } from "wasi:cli/environment@0.2.10";

let seen = 0;

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  seen += 1;
  const pod = new Map(getEnvironment()).get("HOSTNAME");
  const path = new URL(request.url).pathname;
  console.log(`${request.method} ${path}`);
  return new Response(`hello from ${pod}, in JavaScript: ${path}, request ${seen}\n`);
}
