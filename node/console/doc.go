// Package console is the operator's page, served by every node on the admin listener. It is a static page that polls the
// admin API of the node that served it; nothing comes from elsewhere.
//
//	src/        the sources: app.jsx (state, polling, tabs), map.jsx, channels.jsx, paths.jsx, charts.jsx, style.css
//	dist/       what is embedded: made by .ci/console/build from src with pinned libraries (preact, uPlot, d3-force); CI
//	            builds it again and compares
//	console.go  Handler
//
// The page keeps no state but the last hour of samples, and an admin token, if one is needed, for as long as the tab lives.
// It does not change anything in the mesh.
package console
