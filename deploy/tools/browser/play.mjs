// Plays a film in headless Chromium for so many seconds, and prints what happened as JSON.
//
//   node play.mjs page URL SECONDS           a watch page, with the player it brings
//   node play.mjs hls.js URL SECONDS FILE    hls.js out of this file, with a buffer of 12 s
//   node play.mjs native URL SECONDS         the browser's own HLS player
import puppeteer from "puppeteer-core";

const [, , player, url, seconds, hls_file] = process.argv;
const wanted = Number(seconds);
const BUFFER_SECONDS = 12;
const complaints = [];

const browser = await puppeteer.launch({
  executablePath: "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio", "--disable-gpu"],
});
let state = { at: 0, stalls: [] };
try {
  const page = await browser.newPage();
  listen(page);
  await open(page);
  await page.evaluate(watch);
  await page.evaluate(() => document.getElementById("video").play().catch(() => {}));
  // The film takes its own time to play; beyond twice that and a minute to start, it has stalled.
  const end = Date.now() + (2 * wanted + 60) * 1000;
  while (state.at < wanted && Date.now() < end && !state.error) {
    await new Promise(resolve => setTimeout(resolve, 250));
    state = await page.evaluate(look);
  }
  if (state.error) complaints.push(`video: ${state.error}`);
  else if (state.at < wanted) complaints.push(`stopped at ${state.at} s: ${state.notice ?? ""}`);
  if (!(state.frames > 0)) complaints.push("no frame was shown");
} catch (error) {
  complaints.push(String(error));
} finally {
  await browser.close();
}
const { at, stalls, frames, dropped } = state;
console.log(JSON.stringify({ seconds: at, stalls, frames, dropped, complaints }));
process.exit(complaints.length === 0 ? 0 : 1);

function listen(page) {
  page.on("pageerror", error => complaints.push(`page: ${error.message}`));
  page.on("requestfailed", request => {
    // A player gives up a request when it changes the rung; that is no failure.
    const why = request.failure()?.errorText ?? "";
    if (why !== "net::ERR_ABORTED") complaints.push(`${request.url()}: ${why}`);
  });
  page.on("response", response => {
    const icon = response.url().endsWith("/favicon.ico");
    if (response.status() >= 400 && !icon) complaints.push(`${response.url()}: ${response.status()}`);
  });
}

async function open(page) {
  if (player === "page") return page.goto(url, { waitUntil: "domcontentloaded" });
  await page.setContent('<video id="video" muted></video><p id="notice"></p>');
  if (player === "native") {
    return page.evaluate(url => { document.getElementById("video").src = url; }, url);
  }
  await page.addScriptTag({ path: hls_file });
  await page.evaluate((url, seconds) => {
    const hls = new Hls({ maxBufferLength: seconds, maxMaxBufferLength: seconds });
    window.hls = hls;
    hls.loadSource(url);
    hls.attachMedia(document.getElementById("video"));
  }, url, BUFFER_SECONDS);
}

// In the page: writes down each time the film stood still for want of data. Before it begins, while seeking and at
// its end that is no stall; and with data at hand it is the machine that is slow.
function watch() {
  const video = document.getElementById("video");
  window.stalls = [];
  let playing = false;
  const ahead = () => {
    for (let n = 0; n < video.buffered.length; n++) {
      const inside = video.buffered.start(n) <= video.currentTime + 0.1 && video.currentTime < video.buffered.end(n);
      if (inside) return video.buffered.end(n) - video.currentTime;
    }
    return 0;
  };
  const stalled = why => {
    const inside = playing && !video.seeking && video.currentTime < video.duration - 0.5;
    if (inside && ahead() < 0.5) window.stalls.push(`${why} at ${video.currentTime.toFixed(1)} s`);
  };
  video.addEventListener("playing", () => { playing = true; });
  video.addEventListener("waiting", () => stalled("waiting"));
  window.hls?.on(Hls.Events.ERROR, (_, { details, fatal }) => {
    if (fatal || details === "bufferStalledError") stalled(details);
    if (fatal) document.getElementById("notice").textContent = details;
  });
}

// In the page: how far it is.
function look() {
  const video = document.getElementById("video");
  const quality = video.getVideoPlaybackQuality();
  return {
    at: video.currentTime,
    error: video.error && video.error.message,
    notice: document.getElementById("notice").textContent,
    stalls: window.stalls,
    frames: quality.totalVideoFrames,
    dropped: quality.droppedVideoFrames,
  };
}
