"use strict";
// The token comes once, behind the #, which no server and no log ever sees.
if (location.hash.length > 1) {
  sessionStorage.setItem("token", location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}
const main = document.getElementById("main");
const note = document.getElementById("note");

const events = new EventSource("events");
events.onmessage = (event) => {
  const wide = () => [...main.querySelectorAll(".wide")];
  const seen = wide().map((box) => box.scrollLeft);  // a table keeps what was scrolled into view
  main.innerHTML = JSON.parse(event.data);
  wide().forEach((box, i) => { box.scrollLeft = seen[i] || 0; });
  note.textContent = "";
};
events.onerror = () => { note.textContent = "tnet web does not answer; is it still running?"; };
events.addEventListener("trouble", (event) => { note.textContent = JSON.parse(event.data); });

main.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  button.disabled = true;
  const answer = await fetch("action", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Tnet-Token": sessionStorage.getItem("token") || "" },
    body: JSON.stringify({ action: button.dataset.action, value: button.dataset.value || "" }),
  });
  if (!answer.ok) note.textContent = await answer.text();
  button.disabled = false;
});
