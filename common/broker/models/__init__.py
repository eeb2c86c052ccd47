"""Models as Redis knows them: who serves them, how they are routed, when they are loaded."""
