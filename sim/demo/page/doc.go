// Package page is the demo's page and the API behind it: plain HTML, CSS and JavaScript, embedded, with nothing loaded
// from elsewhere. The browser publishes and watches at the nodes themselves (WHIP, WHEP); this API only shows and breaks things.
//
// # Files
//
//	page.go     Handler: the API, and what guards it
//	state.go    State, Action: the documents that page and mesh exchange
//	index.html, style.css, icon.svg
//	app.js      reads the state once a second, buttons
//	map.js      the map: coastlines drawn by hand, paths, cities
//	webrtc.js   WHIP and WHEP with fetch
//
// # API
//
//	GET  /api/state    State
//	GET  /api/session  Session: app and token for the browser
//	POST /api/action   Action; 200 {}, 400 bad document, 409 it makes no sense now
//
// The handler holds no state; the Mesh behind it owns everything and must be safe for concurrent use.
// Anybody who reaches the listener may break the emulated mesh and gets a token for it, so requests are taken only
// if they name the listener by IP address or as localhost (against DNS rebinding), and actions only as JSON (against forms of other sites).
package page
