"""Lines of files that come whole: FINRA, SEC, IEX, daily prices. JSON objects, flat."""
